"""One figure of what each step of a pipeline makes of the same cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing

from ..data import class_numbers, images_of, load_case_mask, load_mask, load_volume, prediction_path, show_progress
from .planes import fullest_plane, grey_window
from .prediction_figures import PREDICTED, REAL
from .pyplot import outline, pyplot_to_files, save_figure

__all__ = ["write_step_figure"]


def write_step_figure(
    cases: Sequence[Mapping[str, Any]],
    steps: Mapping[str, str | Path],
    class_map: Mapping[str, int | Sequence[int]],
    path: str | Path,
    number: int = 10,
    axis: int = 2,
    progress: bool = True,
) -> Path:
    """Draw cases from the best to the worst, evenly by the Dice of the last step, a row each and a column each step.

    A row shows the slice in which most of the real mask is. Dice is that of foreground against background in the whole
    volume, as written above each panel.

    Args:
        cases: items with "case", "image" and "label" (path of the real mask).
        steps: title -> folder of its masks, in which class k has the value k + 1.
        class_map: class name -> value or values in the real masks.
        path: of the figure, a PNG file.
        number: of rows, at most.
        axis: array axis across which slices are taken.
        progress: show a progress bar.

    Returns:
        the path.

    Raises:
        ImportError: when matplotlib is missing.
        FileNotFoundError: when a file is missing.
        ValueError: when there is no case or step, or a file is damaged.
    """
    pyplot = pyplot_to_files()
    if not cases or not steps:
        raise ValueError(f"cases, steps: expected at least one of both, but got {len(cases)} and {len(steps)}.")
    rows = [_row(item, steps, class_map, axis) for item in show_progress(cases, "figure", "case", enabled=progress)]
    rows.sort(key=lambda row: -row["dice"][-1])
    chosen = np.unique(np.linspace(0, len(rows) - 1, number).round().astype(int))
    size = (2.2 * (len(steps) + 1), 2.4 * len(chosen))
    figure, grid = pyplot.subplots(len(chosen), len(steps) + 1, figsize=size, squeeze=False, layout="constrained")
    for panels, index in zip(grid, chosen, strict=True):
        _draw(panels, rows[index], list(steps))
    figure.suptitle("white: real, orange: the step's mask; Dice of the whole volume", fontsize=9)
    save_figure(figure, Path(path))
    return Path(path)


def _row(
    item: Mapping[str, Any], steps: Mapping[str, str | Path], class_map: Mapping[str, int | Sequence[int]], axis: int
) -> dict[str, Any]:
    """One slice of a case, and of all its masks."""
    image = load_volume(images_of(item)[0])
    real = class_numbers(load_case_mask(item).array, class_map)
    masks = [load_mask(prediction_path(folder, item)).array for folder in steps.values()]
    others = tuple(a for a in range(3) if a != axis)
    plane = fullest_plane(real, axis)
    spacing = affine_to_spacing(image.affine)
    x, y = (float(spacing[a]) for a in others)
    lower, upper = grey_window(image.array)
    return {
        "case": item["case"],
        "image": np.clip((np.take(image.array, plane, axis).T - lower) / max(upper - lower, 1e-9), 0, 1),
        "aspect": y / x,
        "real": np.take(real, plane, axis).T,
        "masks": [np.take(mask, plane, axis).T for mask in masks],
        "dice": [_dice(mask > 0, real > 0) for mask in masks],
    }


def _dice(predicted: np.ndarray, real: np.ndarray) -> float:
    return float(2 * (predicted & real).sum() / max(predicted.sum() + real.sum(), 1))


def _draw(panels: Any, row: dict[str, Any], titles: Sequence[str]) -> None:
    drawn = [
        (row["case"], None),
        *((f"{t}: {d:.2f}", m) for t, d, m in zip(titles, row["dice"], row["masks"], strict=True)),
    ]
    for axis, (title, mask) in zip(panels, drawn, strict=True):
        axis.imshow(row["image"], cmap="gray", origin="lower", aspect=row["aspect"])
        for numbers, colour in ((row["real"], REAL), (mask, PREDICTED)):
            if mask is not None:
                for value in np.unique(numbers[numbers > 0]):
                    outline(axis, numbers == value, colour)
        axis.set_title(title, fontsize=8)
        axis.set_axis_off()
