"""Which plane of a volume a figure shows, and its grey levels."""

from __future__ import annotations

import numpy as np

__all__ = ["fullest_plane", "grey_window"]

PERCENTILES = (0.5, 99.5)


def fullest_plane(mask: np.ndarray, axis: int) -> int:
    """Number of the plane across an axis in which most of a mask (X, Y, Z) is; the first one on ties."""
    return int((mask > 0).sum(tuple(a for a in range(3) if a != axis)).argmax())


def grey_window(volume: np.ndarray) -> tuple[float, float]:
    """Values of a volume that are black and white in a figure."""
    lower, upper = np.percentile(volume, PERCENTILES)
    return float(lower), float(upper)
