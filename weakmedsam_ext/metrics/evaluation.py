"""Evaluation of predicted masks in files, by the volume protocol and, for comparison, by the released one."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data.utils import affine_to_spacing
from torch import Tensor

from ..data import Volume, atomic_path, check_same_grid, load_mask, prediction_path, show_progress, write_json
from .measurement import PROTOCOLS, Measurement, measure, summarise

__all__ = ["Evaluation", "evaluate_predictions", "write_csv"]

logger = logging.getLogger(__name__)

ClassMap = Mapping[str, int | Sequence[int]]
NUM_NAMED = 3  # missing files that an error shows


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_predictions`. None stands for a value that does not exist.

    Args:
        metrics: content of metrics.json: "protocols", "classes", "cases", and "summary", which is protocol -> class ->
            metric -> mean, std, median, n, n_missed, n_spurious, n_empty.
        rows: those of metrics.csv, one a case and class.
    """

    metrics: dict[str, Any]
    rows: list[dict[str, Any]]


def evaluate_predictions(
    cases: Sequence[Mapping[str, str]],
    predictions: str | Path | Mapping[str, str | Path],
    class_map: ClassMap,
    output_dir: str | Path,
    prediction_map: ClassMap | None = None,
    progress: bool = True,
) -> Evaluation:
    """Compare predicted with reference masks and write metrics.json and metrics.csv.

    One case is in memory at a time. The same masks give the same bytes; each file appears complete or not at all,
    metrics.json last. See `compute_volume_metrics` and `compute_released_metrics` for formulas and for empty masks.

    Args:
        cases: items with "case" and "label" (path of the reference mask).
        predictions: folder that holds `<case>.nii.gz` or `<case>.nii`, or case -> path; on the grid of the reference.
        class_map: class name -> value or values in the reference masks, for example {"whole tumour": [1, 2, 4]}.
            Other values are background. Slices are taken along the last array axis.
        output_dir: gets the two files.
        prediction_map: class name -> value or values in the predicted masks, others are background. By default class k
            has the value k + 1, as this package writes masks, and another value is an error.
        progress: show a progress bar.

    Returns:
        the content of both files.

    Raises:
        FileNotFoundError: when a mask is missing.
        ValueError: when there is no case or class, or a mask is damaged, has unexpected values or another grid than its
            reference.
    """
    real = _label_values("class_map", class_map)
    predicted = _label_values("prediction_map", prediction_map or {name: k + 1 for k, name in enumerate(real)})
    if set(predicted) != set(real):
        raise ValueError(f"prediction_map: expected the classes {list(real)}, but got {list(predicted)}.")
    paths = _prediction_paths(cases, predictions)
    measured: dict[str, list[Measurement]] = {name: [] for name in real}
    for item in show_progress(cases, "evaluate", "case", enabled=progress):
        reference, prediction = load_mask(item["label"]), _load_prediction(paths[item["case"]])
        check_same_grid(reference, prediction)
        if not prediction_map:
            _check_values(prediction, predicted)
        spacing = _spacing(reference)
        for name in real:
            measured[name].append(
                measure(_inside(prediction, predicted[name]), _inside(reference, real[name]), spacing)
            )
    _warn_of_absent_classes(measured, real)
    rows = [
        {"case": case, "class": name, **found[index].row()}
        for index, case in enumerate(paths)
        for name, found in measured.items()
    ]
    metrics = {
        "protocols": PROTOCOLS,
        "classes": {name: {"reference": real[name], "prediction": predicted[name]} for name in real},
        "cases": list(paths),
        "summary": {p: {name: summarise(found, p) for name, found in measured.items()} for p in PROTOCOLS},
    }
    write_csv(rows, Path(output_dir) / "metrics.csv")
    write_json(metrics, Path(output_dir) / "metrics.json")
    return Evaluation(metrics, rows)


def _label_values(argument: str, class_map: ClassMap) -> dict[str, list[int]]:
    values = {str(name): np.atleast_1d(np.asarray(numbers)) for name, numbers in class_map.items()}
    if not values or not all(v.size and v.dtype.kind in "iu" and v.min() > 0 for v in values.values()):
        raise ValueError(f"{argument}: expected a class and for each whole values above 0, but got {dict(class_map)}.")
    return {name: numbers.tolist() for name, numbers in values.items()}


def _prediction_paths(
    cases: Sequence[Mapping[str, str]], predictions: str | Path | Mapping[str, str | Path]
) -> dict[str, Path]:
    """Files of the predictions; all of them are looked for before the first one is read."""
    names = [item["case"] for item in cases]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"cases: expected at least one case and each once, but got {names}.")
    unlabelled = [item["case"] for item in cases if "label" not in item]
    if unlabelled:
        raise ValueError(f"cases without a reference mask ({_some(unlabelled)}) cannot be evaluated; leave them out.")
    if isinstance(predictions, Mapping):
        unknown = [name for name in names if name not in predictions]
        if unknown:
            raise ValueError(f"predictions: expected a path for every case, but {_some(unknown)} have none; add them.")
        paths = {name: Path(predictions[name]) for name in names}
    else:
        paths = {item["case"]: prediction_path(predictions, item) for item in cases}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} predictions are missing ({_some(missing)}); run the stage that writes "
            "them, or correct the folder."
        )
    return paths


def _load_prediction(path: Path) -> Volume:
    """Read a predicted mask, which nobody can download."""
    try:
        return load_mask(path)
    except ValueError as error:
        what = str(error).rpartition("; ")[0] or str(error)
        raise ValueError(f"{what}; segment this case again, or leave it out.") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")


def _check_values(prediction: Volume, values: Mapping[str, Sequence[int]]) -> None:
    expected = {0, *(number for numbers in values.values() for number in numbers)}
    unexpected = sorted(set(np.unique(prediction.array).tolist()) - expected)
    if unexpected:
        raise ValueError(
            f"{prediction.path}: expected the values {sorted(expected)} (0 background, k + 1 class k), but got "
            f"{unexpected[:NUM_NAMED]}; give prediction_map if this mask has other values."
        )


def _inside(mask: Volume, values: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.isin(mask.array, values))


def _spacing(volume: Volume) -> list[float]:
    """Size of a voxel in mm along the array axes, however they are turned: lengths of the affine's columns."""
    spacing = affine_to_spacing(volume.affine, suppress_zeros=False).tolist()
    if not all(0 < size < float("inf") for size in spacing):
        raise ValueError(f"{volume.path}: expected a positive voxel size, but got {spacing} mm; correct its header.")
    return spacing


def _warn_of_absent_classes(measured: Mapping[str, Sequence[Measurement]], values: Mapping[str, Sequence[int]]) -> None:
    for name, found in measured.items():
        if all(m.presences["volume"][0] in ("spurious", "empty") for m in found):
            logger.warning(
                "class %r (values %s) is in none of the %d reference masks; check class_map.",
                name,
                values[name],
                len(found),
            )


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows of the same columns, complete or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
