"""Slices with their image-level labels, for a data loader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from monai.utils import look_up_option
from torch import Tensor

from .labels import SliceLabels
from .store import SliceStore
from .subclasses import Subclasses

__all__ = ["SliceDataset"]


class SliceDataset(Dataset):
    """Slices of some cases: {"image", "valid", "class_label", "case", "slice"} and, with clusters, "subclass".

    "image" is float32 (1 or 3, H, W) in 0..1, "valid" bool (1, H, W), False in the padding, "class_label" float32 (K,),
    "subclass" the float32 target (K*S+1,) of the sub-class head. "slice" counts in the order of the store, see
    `SliceGeometry`. No mask is opened.

    SAM-like networks see one or three channels: two become three by their mean, and of more the first three are kept.

    Args:
        store: the slices.
        labels: which classes are visible; a file or what it holds.
        cases: names, or items with "case"; every case of the store without.
        keep: "all" slices, only those "with" the class, or only those "without".
        class_name: the class that `keep` asks for; any class without.
        subclasses: clusters of the slices; a file or what it holds.
        transform: applied to every item, for example random augmentation.

    Raises:
        ValueError: when a case has no slices or no labels, their numbers differ, sub-classes are missing, or nothing is
            left.
    """

    def __init__(
        self,
        store: SliceStore,
        labels: SliceLabels | str | Path,
        cases: Sequence[Any] | None = None,
        keep: str = "all",
        class_name: str | None = None,
        subclasses: Subclasses | str | Path | None = None,
        transform: Callable | Sequence[Callable] | None = None,
    ) -> None:
        self.store = store
        self.labels = labels if isinstance(labels, SliceLabels) else SliceLabels.read(labels)
        self.subclasses = Subclasses.read(subclasses) if isinstance(subclasses, (str, Path)) else subclasses
        if self.subclasses is not None and self.subclasses.classes != self.labels.classes:
            raise ValueError(
                f"subclasses: expected the classes {self.labels.classes} of the slice labels, but got "
                f"{self.subclasses.classes}; run the clustering stage again."
            )
        axis = self.labels.source.get("axis", store.preprocessing.axis)
        if axis != store.preprocessing.axis:
            raise ValueError(
                f"labels: expected those of {store.preprocessing.axis} slices, as the store has them, but got those of "
                f"{axis} ones; delete the slice labels, and the stage slice_labels writes them anew."
            )
        names = store.cases if cases is None else [case if isinstance(case, str) else case["case"] for case in cases]
        items = [item for name in names for item in self._items_of(name) if self._is_kept(item, keep, class_name)]
        if not items:
            raise ValueError(
                f"no slice is left of {len(names)} cases with keep={keep!r} and class_name={class_name!r}; "
                "give more cases, or check the slice labels."
            )
        super().__init__(items, transform)

    def _items_of(self, case: str) -> list[dict[str, Any]]:
        """Everything but the image of a case's slices."""
        if case not in self.store:
            raise ValueError(f"case {case!r} is not in the slice store {self.store.root}; build the store with it.")
        matrix, slices = self.labels.matrix(case), self.store.geometry(case).num_slices
        if len(matrix) != slices:
            raise ValueError(
                f"case {case!r} has {slices} slices, but labels for {len(matrix)}; delete the slice labels."
            )
        items: list[dict[str, Any]] = []
        for index, label in enumerate(matrix):
            items.append({"class_label": torch.from_numpy(label), "case": case, "slice": index})
            if self.subclasses is not None:
                items[-1]["subclass"] = torch.from_numpy(self.subclasses.target(case, index, label))
        return items

    def _is_kept(self, item: dict[str, Any], keep: str, class_name: str | None) -> bool:
        if look_up_option(keep, ("all", "with", "without")) == "all":
            return True
        label = item["class_label"]
        if class_name is not None:
            label = label[self.labels.classes.index(look_up_option(class_name, self.labels.classes))]
        return bool(label.any()) == (keep == "with")

    def _transform(self, index: int) -> Any:
        item = dict(self.data[index])
        item["image"] = _network_channels(self.store.image(item["case"], item["slice"]))
        item["valid"] = self.store.geometry(item["case"]).valid.unsqueeze(0)
        # labels are cloned: a transform may change what it gets in place
        item.update({key: item[key].clone() for key in ("class_label", "subclass") if key in item})
        return self.transform(item)


def _network_channels(image: Tensor) -> Tensor:
    if len(image) == 2:
        return torch.cat([image, image.mean(0, keepdim=True)])
    return image[:3] if len(image) > 3 else image
