"""Segment a volume into regions by watersheds of its gradient magnitude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.morphology import local_minima, reconstruction
from skimage.segmentation import watershed

__all__ = ["check_watershed_settings", "watershed_hierarchy"]


def watershed_hierarchy(image: np.ndarray, depths: Sequence[float], smoothings: Sequence[float] = (1.0,)) -> np.ndarray:
    """Flood the gradient magnitude of an image from its basins that are deep enough (Grimaud, SPIE 1992).

    A level has one region for each basin whose walls rise by at least its depth: the deeper, the fewer and larger. What
    several smoothings agree on is closer to real structures than one of them, as in `region_hierarchy`.

    Args:
        image: (H, W) or (D, H, W) in 0..1.
        depths: of the basins, in intensity a pixel or voxel, one for each level of a smoothing, ascending.
        smoothings: standard deviations of the Gaussian that the gradient is taken with, in pixels or voxels.

    Returns:
        region numbers from 0, (levels, *image.shape), each region in one piece; all depths of the first smoothing come
        first.

    Raises:
        ValueError: see `check_watershed_settings`.
    """
    check_watershed_settings(depths, smoothings)
    image = np.asarray(image, dtype=np.float32)
    gradients = [ndimage.gaussian_gradient_magnitude(image, smoothing) for smoothing in smoothings]
    return np.stack([watershed(one, _basins(one, depth)) - 1 for one in gradients for depth in depths])


def check_watershed_settings(depths: Sequence[float], smoothings: Sequence[float]) -> None:
    """Check the settings of `watershed_hierarchy` before any image is read.

    Raises:
        ValueError: when the depths do not ascend, or a setting is not positive.
    """
    ascending = len(depths) and list(depths) == sorted(depths) and depths[0] > 0
    if not ascending or not len(smoothings) or min(smoothings) <= 0:
        raise ValueError(
            "expected ascending positive depths and positive smoothings, but got "
            f"depths={tuple(depths)} and smoothings={tuple(smoothings)}."
        )


def _basins(gradient: np.ndarray, depth: float) -> np.ndarray:
    """Numbers of the basins at least this deep, 0 elsewhere."""
    filled = reconstruction(gradient + depth, gradient, method="erosion")
    # skimage's h_minima keeps basins of equal depth apart, and many are: where intensities are clipped, gradients are 0
    minima = local_minima(filled)
    if not minima.any():  # filled up to the brim: one region
        return np.ones(gradient.shape, dtype=np.int32)
    return ndimage.label(minima, ndimage.generate_binary_structure(gradient.ndim, gradient.ndim))[0]
