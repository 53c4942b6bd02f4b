"""Image-level labels: the classes that each slice shows. Weak training opens masks here only, once."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cases import images_of
from ..hashes import content_hash
from ..io import load_case_mask, read_json, write_json
from ..progress import show_progress
from .geometry import SliceGeometry

__all__ = ["SliceLabels", "slice_labels_from_masks"]

logger = logging.getLogger(__name__)

REMEDY = "delete it, and the stage slice_labels writes it anew"


@dataclass(frozen=True)
class SliceLabels:
    """Classes that are visible in every slice of every case.

    Slices are in the order of the slice store: axial ones from foot to head, coronal ones from back to front, sagittal
    ones from left to right, counted from 0, however the file stores them. `SliceGeometry.file_index` gives the number
    that a viewer shows.

    Args:
        classes: names of the K classes; their order is the order of every K-vector.
        cases: case -> slice -> names of the visible classes.
        source: what the labels were made from.
    """

    classes: tuple[str, ...]
    cases: Mapping[str, Sequence[Sequence[str]]]
    source: Mapping[str, Any]

    def matrix(self, case: str) -> np.ndarray:
        """0/1 labels of a case, float32 of shape (slices, K).

        Raises:
            ValueError: when the case has no labels.
        """
        if case not in self.cases:
            raise ValueError(f"case {case!r} has no slice labels; label its slices, or leave it out.")
        slices = self.cases[case]
        return np.array([[name in visible for name in self.classes] for visible in slices], dtype=np.float32)

    def write(self, path: str | Path) -> None:
        """Write the labels as JSON."""
        write_json({"classes": self.classes, "source": self.source, "cases": self.cases}, path)

    @classmethod
    def read(cls, path: str | Path) -> SliceLabels:
        """Read labels that `write` has written.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is damaged, or names a class that it does not declare.
        """
        content = read_json(path, REMEDY)
        try:
            classes = tuple(content["classes"])
            cases = {case: [tuple(visible) for visible in slices] for case, slices in content["cases"].items()}
            source = dict(content["source"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} holds no slice labels ({error!r}); {REMEDY}.") from error
        unknown = {name for slices in cases.values() for visible in slices for name in visible} - set(classes)
        if unknown:
            raise ValueError(f"{path}: unknown classes {sorted(unknown)}, expected some of {list(classes)}; {REMEDY}.")
        return cls(classes, cases, source)


def slice_labels_from_masks(
    cases: Sequence[Mapping[str, Any]],
    output: str | Path,
    class_map: Mapping[str | int, int | Sequence[int]],
    min_pixels: int = 1,
    progress: bool = True,
    axis: str = "axial",
) -> SliceLabels:
    """Derive slice labels from masks and write them to a file; later calls read the file and open no mask.

    When `output` exists, was made with the same settings and holds all the cases with the same images, it is read and
    no mask is opened, not even to see whether it has changed: delete the file after masks were corrected.

    Args:
        cases: items with "case", "image" and "label" (path of the mask).
        output: slice_labels.json.
        class_map: class name -> label value or values, for example {"whole tumour": [1, 2, 4]}. Other values in the
            masks are background. A slice can show several classes.
        min_pixels: a class counts as visible in a slice where it has at least this many pixels.
        progress: show a progress bar.
        axis: anatomical direction of the slices: "axial", "coronal" or "sagittal".

    Returns:
        the labels.

    Raises:
        FileNotFoundError: when an image or a mask is missing.
        ValueError: when a mask is damaged or does not fit its image, or a class occurs in no mask.
    """
    class_values = {str(name): np.atleast_1d(np.asarray(values)).tolist() for name, values in class_map.items()}
    if not class_values or min_pixels < 1 or not cases:
        raise ValueError(
            f"expected at least one class, one case and min_pixels >= 1, but got class_map {dict(class_map)}, "
            f"{len(cases)} cases and min_pixels {min_pixels}."
        )
    settings = {"kind": "masks", "class_map": class_values, "min_pixels": min_pixels, "axis": axis}
    output = Path(output)
    images = {item["case"]: " ".join(map(content_hash, images_of(item))) for item in cases}
    if output.is_file():
        labels = SliceLabels.read(output)
        recorded = dict(labels.source)
        if recorded.pop("images", {}).items() >= images.items() and json.dumps(recorded) == json.dumps(settings):
            return labels
        logger.warning("%s was made from other cases or settings; the masks are read again.", output)
    bar = show_progress(cases, "slice labels", "case", enabled=progress)
    visible = {item["case"]: _visible(item, class_values, min_pixels, axis) for item in bar}
    absent = set(class_values) - {name for slices in visible.values() for names in slices for name in names}
    if absent:
        first = load_case_mask(cases[0])
        values = np.unique(first.array).tolist()
        raise ValueError(
            f"class_map: {sorted(absent)} occur in no slice of {len(cases)} masks with min_pixels {min_pixels}; "
            f"correct the label values {class_values}, or the masks ({first.path} holds {values})."
        )
    labels = SliceLabels(tuple(class_values), visible, {**settings, "images": images})
    labels.write(output)
    return labels


def _visible(
    item: Mapping[str, Any], class_values: Mapping[str, Sequence[int]], min_pixels: int, axis: str
) -> list[tuple[str, ...]]:
    """Classes in every slice of one case."""
    if "label" not in item:
        raise ValueError(f"case {item['case']!r} has no mask; list its slices in a CSV file instead.")
    mask = load_case_mask(item)
    planes = SliceGeometry.of_grid(mask, 1, axis).planes(mask.array).numpy()
    pixels = {name: np.isin(planes, values).sum(axis=(1, 2)) for name, values in class_values.items()}
    return [tuple(name for name, count in pixels.items() if count[index] >= min_pixels) for index in range(len(planes))]
