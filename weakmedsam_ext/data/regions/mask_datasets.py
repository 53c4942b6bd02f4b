"""Structures that were drawn, for training a promptable network on masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset

from ..datasets.decathlon import named_images
from ..io import Volume, load_case_mask
from ..reference_labels import class_numbers
from ..slices.store import build_slice_store
from ..volume_store import build_volume_store

__all__ = ["SliceMasks", "VolumeMasks"]

Structures = Mapping[str, int | Sequence[int]]


class SliceMasks(Dataset):
    """Slices that show some of the given structures: {"case", "slice", "image", "label"}.

    "image" is float32 (1, H, W) in 0..1, "label" int32 (1, H, W), k + 1 for structure k; `MaskRegionsd` makes regions
    of it. All other label values become background. The masks stay in memory.

    Args:
        data: volumes, items with "image" and "label" (paths), and optionally "case" (the image's name without).
        root: gets slices/.
        structures: name -> value or values in the masks.
        img_size: pixels along each side of a slice.
        transform: applied to every item.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when there are no volumes or structures, a volume has no mask, a file is damaged, or no slice shows
            a structure.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        structures: Structures,
        img_size: int = 256,
        transform: Callable | Sequence[Callable] | None = None,
        progress: bool = True,
    ) -> None:
        cases = _labelled(data, structures)
        self.store = build_slice_store(cases, Path(root) / "slices", img_size, progress=progress)
        self.masks = {
            item["case"]: self.store.geometry(item["case"])
            .to_network(_structure_mask(item, structures).array, "nearest")
            .numpy()
            for item in cases
        }
        shown = [
            {"case": case, "slice": index}
            for case, mask in self.masks.items()
            for index in np.flatnonzero(mask.any((1, 2))).tolist()
        ]
        super().__init__(_not_empty(shown, structures), transform)

    def _transform(self, index: int) -> Any:
        item = dict(self.data[index])
        item["image"] = self.store.image(item["case"], item["slice"])
        item["label"] = torch.from_numpy(self.masks[item["case"]][item["slice"]].astype(np.int32)).unsqueeze(0)
        return self.transform(item)


class VolumeMasks(Dataset):
    """Whole volumes with the given structures: {"case", "image" float32 (1, D, H, W), "label" int32 (1, D, H, W)}.

    Args:
        data: see `SliceMasks`.
        root: gets volumes/.
        structures: see `SliceMasks`.
        spacing: see `build_volume_store`.
        samples_per_volume: how often a volume is in the data set, for random patches of it.
        transform: applied to every item.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when there are no volumes or structures, a volume has no mask, a file is damaged, or no volume shows
            a structure.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        structures: Structures,
        spacing: float = 2.0,
        samples_per_volume: int = 1,
        transform: Callable | Sequence[Callable] | None = None,
        progress: bool = True,
    ) -> None:
        cases = _labelled(data, structures)
        self.store = build_volume_store(cases, Path(root) / "volumes", spacing, progress=progress)
        preprocessing = self.store.preprocessing
        self.masks = {
            item["case"]: preprocessing.mask(_structure_mask(item, structures)).astype(np.uint8) for item in cases
        }
        shown = [{"case": case} for case, mask in self.masks.items() if mask.any()]
        super().__init__(_not_empty(shown, structures) * samples_per_volume, transform)

    def _transform(self, index: int) -> Any:
        case = self.data[index]["case"]
        label = torch.from_numpy(self.masks[case].astype(np.int32)).unsqueeze(0)
        return self.transform({"case": case, "image": self.store.image(case), "label": label})


def _labelled(data: Sequence[Mapping[str, str]], structures: Structures) -> list[dict[str, str]]:
    """Items with all of "case", "image" and "label"."""
    if not structures:
        raise ValueError("structures: expected at least one name and its label value, but got none; name what to use.")
    without = [item["image"] for item in data if "label" not in item]
    if without:
        raise ValueError(f"data: {without[0]} has no mask; leave the volume out.")
    return [{**named, "label": item["label"]} for named, item in zip(named_images(data), data, strict=True)]


def _structure_mask(item: Mapping[str, str], structures: Structures) -> Volume:
    """Mask of a volume with k + 1 for structure k."""
    mask = load_case_mask(item)
    return Volume(mask.path, mask.shape, mask.affine, class_numbers(mask.array, structures))


def _not_empty(items: list[dict[str, Any]], structures: Structures) -> list[dict[str, Any]]:
    if not items:
        raise ValueError(f"structures: {list(structures)} occur in no mask; correct the label values.")
    return items
