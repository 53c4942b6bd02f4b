"""Figures of predicted masks beside real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import affine_to_spacing

from ..data import (
    Volume,
    check_same_grid,
    class_numbers,
    images_of,
    load_case_mask,
    load_mask,
    load_volume,
    prediction_path,
    show_progress,
)
from .planes import fullest_plane, grey_window
from .pyplot import outline, pyplot_to_files, save_figure

__all__ = ["plot_prediction", "write_prediction_figures"]

REAL, PREDICTED = "white", "tab:orange"


def write_prediction_figures(
    cases: Sequence[Mapping[str, str]],
    prediction_dir: str | Path,
    class_map: Mapping[str, int | Sequence[int]],
    output_dir: str | Path,
    progress: bool = True,
) -> list[Path]:
    """Draw one figure a case, see `plot_prediction`.

    Args:
        cases: items with "case", "image" and "label" (path of the real mask).
        prediction_dir: folder that holds `<case>.nii.gz`, in which class k has the value k + 1.
        class_map: class name -> value or values in the real masks.
        output_dir: gets `<case>.png`.
        progress: show a progress bar.

    Returns:
        paths of the figures.

    Raises:
        ImportError: when matplotlib is missing.
        FileNotFoundError: when a file is missing.
        ValueError: when a file is damaged, or grids differ.
    """
    pyplot_to_files()  # without matplotlib there is nothing to read for
    paths = []
    for item in show_progress(cases, "figures", "case", enabled=progress):
        image, real = load_volume(images_of(item)[0]), load_case_mask(item)
        predicted = load_mask(prediction_path(prediction_dir, item))
        check_same_grid(image, predicted)
        figure = plot_prediction(image, class_numbers(real.array, class_map), predicted.array, item["case"])
        paths.append(Path(output_dir) / f"{item['case']}.png")
        save_figure(figure, paths[-1])
    return paths


def plot_prediction(image: Volume, real: np.ndarray, predicted: np.ndarray, title: str = "") -> Any:
    """Draw three planes of a volume, one across each axis, with the outlines of both masks.

    Each plane is the one in which most of the real mask is, or of the predicted one if there is none.

    Args:
        image: the volume.
        real: class numbers (X, Y, Z), 0 is background.
        predicted: of the same shape.
        title: above the planes.

    Returns:
        a matplotlib figure; close it after use.

    Raises:
        ImportError: when matplotlib is missing.
    """
    spacing = affine_to_spacing(image.affine)
    shown = real if real.any() else predicted
    lower, upper = grey_window(image.array)
    figure, axes = pyplot_to_files().subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for across, axis in enumerate(axes):
        plane = fullest_plane(shown, across)
        flat, real_flat, predicted_flat = (np.take(array, plane, across).T for array in (image.array, real, predicted))
        x, y = (float(spacing[a]) for a in range(3) if a != across)
        axis.imshow(flat, cmap="gray", origin="lower", vmin=lower, vmax=upper, aspect=y / x)
        for numbers, colour in ((real_flat, REAL), (predicted_flat, PREDICTED)):
            for number in np.unique(numbers[numbers > 0]):
                outline(axis, numbers == number, colour)
        axis.set_axis_off()
        axis.set_title(f"plane {plane} across axis {across}", fontsize=9)
    figure.suptitle(f"{title} (white: real, orange: predicted)", fontsize=10)
    return figure
