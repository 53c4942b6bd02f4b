"""Split, slices and image-level labels of a data set, shared by the stages of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..datasets.listing import list_cases, split_dataset
from .dataset import SliceDataset
from .geometry import SLICE_AXES
from .labels import SliceLabels, slice_labels_from_masks
from .labels_csv import slice_labels_from_csv
from .store import SliceStore, build_slice_store

__all__ = ["SliceStudy"]


class SliceStudy:
    """Split, slices and image-level labels of a data set; each is computed on first use.

    Masks are opened once, to label the slices, and not at all when the labels come from a CSV file.

    Args:
        dataset_dir: a data set as downloaded, for example Task02_Heart, see `list_cases`.
        output_dir: gets the slice store and slice_labels.json.
        class_map: class name -> label value or values in the masks.
        img_size: pixels along each side of a slice.
        num_folds: parts of the cross-validation.
        fold: the part for validation.
        num_test: cases set apart for the test.
        seed: of the split.
        split_file: explicit lists of cases instead of folds, see `read_split`.
        labels_csv: the user's own slice labels instead of masks, see `slice_labels_from_csv`.
        axis: anatomical direction of the slices: "axial", "coronal" or "sagittal".
        groups: which cases are of one patient, see `split_cases`; None when every case is a patient of its own.
        layout: see `list_cases`.
        modalities: see `list_cases`.
        window: see `IntensityScaling`.
        foreground: see `IntensityScaling`.

    Raises:
        ValueError: when the axis is unknown.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        output_dir: str | Path,
        class_map: Mapping[str | int, int | Sequence[int]],
        img_size: int = 256,
        num_folds: int = 5,
        fold: int = 0,
        num_test: int = 0,
        seed: int = 0,
        split_file: str | Path | None = None,
        labels_csv: str | Path | None = None,
        axis: str = "axial",
        groups: str | Path | None = None,
        layout: str | None = None,
        modalities: Sequence[str] | None = None,
        window: Sequence[float] | None = None,
        foreground: bool = False,
    ) -> None:
        self.dataset_dir = Path(dataset_dir)
        self.output_dir = Path(output_dir)
        self.class_map = dict(class_map)
        self.img_size = img_size
        self.num_folds = num_folds
        self.fold = fold
        self.num_test = num_test
        self.seed = seed
        self.split_file = split_file
        self.labels_csv = labels_csv
        self.axis: str = look_up_option(axis, list(SLICE_AXES))
        self.groups = groups
        self.layout = layout
        self.modalities = modalities
        self.window = window
        self.foreground = foreground

    @property
    def classes(self) -> list[str]:
        """Names of the K classes."""
        return [str(name) for name in self.class_map]

    @cached_property
    def split(self) -> dict[str, list[dict[str, Any]]]:
        """Cases of "train", "validation" and "test"."""
        return split_dataset(
            self.dataset_dir,
            self.num_folds,
            self.fold,
            self.seed,
            self.num_test,
            self.split_file,
            groups=self.groups,
            layout=self.layout,
            modalities=self.modalities,
        )

    @property
    def labelled_cases(self) -> list[dict[str, Any]]:
        """Cases whose image-level labels are used: those of training and validation."""
        return self.split["train"] + self.split["validation"]

    @property
    def held_out(self) -> list[dict[str, Any]]:
        """Cases for evaluation: the test cases, or the validation cases if there are none."""
        return self.split["test"] or self.split["validation"]

    @cached_property
    def labels(self) -> SliceLabels:
        """Image-level labels of training and validation cases, made at the first call."""
        cases, output = self.labelled_cases, self.output_dir / "slice_labels.json"
        if self.labels_csv:
            others = list_cases(self.dataset_dir, self.layout, self.modalities, check_masks=False, check_images=False)
            return slice_labels_from_csv(self.labels_csv, cases, self.classes, output, self.axis, others)
        return slice_labels_from_masks(cases, output, self.class_map, axis=self.axis)

    @cached_property
    def store(self) -> SliceStore:
        """Slices of training and validation cases, decoded at the first call."""
        return build_slice_store(
            self.labelled_cases,
            self.output_dir / "slices",
            self.img_size,
            axis=self.axis,
            window=self.window,
            foreground=self.foreground,
        )

    def slices(self, part: str | Sequence[str], keep: str = "all", **arguments: Any) -> SliceDataset:
        """Slices of "train" or "validation", or of named cases; further arguments as for `SliceDataset`."""
        cases = [case["case"] for case in self.split[part]] if isinstance(part, str) else part
        return SliceDataset(self.store, self.labels, cases, keep, **arguments)
