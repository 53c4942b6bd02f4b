"""Matplotlib for figures that go to files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from ..data import atomic_path

__all__ = ["figures_possible", "outline", "pyplot_to_files", "save_figure"]

logger = logging.getLogger(__name__)
REMEDY = 'figures need matplotlib; run `pip install "weakmedsam-ext[report]"`'


def pyplot_to_files() -> Any:
    """Give matplotlib.pyplot without a window.

    Raises:
        ImportError: when matplotlib is missing.
    """
    matplotlib, found = optional_import("matplotlib")
    if not found:
        raise ImportError(f"{REMEDY}.")
    matplotlib.use("agg")
    return optional_import("matplotlib.pyplot")[0]


def figures_possible() -> bool:
    """Whether matplotlib is there; without it a pipeline leaves its figures out and says so in a line."""
    found = optional_import("matplotlib")[1]
    if not found:
        logger.warning("%s; they are left out", REMEDY)
    return found


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, complete or not at all, and close it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    pyplot_to_files().close(figure)


def outline(axis: Any, mask: np.ndarray, colour: str) -> None:
    """Draw the border of a mask (rows, columns)."""
    if mask.any() and not mask.all():  # matplotlib warns where there is no line to draw
        # a side of one pixel, as a volume of one slice has, is drawn from edge to edge
        rows, columns = (np.arange(length) if length > 1 else np.array([-0.5, 0.5]) for length in mask.shape)
        shown = np.broadcast_to(mask, (len(rows), len(columns)))
        axis.contour(columns, rows, shown, [0.5], colors=colour, linewidths=1.2)
