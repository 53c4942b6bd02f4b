"""Smoothing before a volume is resampled to larger voxels."""

from __future__ import annotations

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["anti_alias"]


def anti_alias(volume: np.ndarray, affine: np.ndarray, spacing: float | Sequence[float]) -> np.ndarray:
    """Smooth a volume with a Gaussian so that voxels which larger steps skip count too.

    The standard deviation along an axis is (s - 1) / 2 voxels for a step of s voxels, that of MONAI's `Resize`, and 0
    where the step is below 1.

    Args:
        volume: (..., X, Y, Z); other axes than the last three are not smoothed.
        affine: of the volume, 4 x 4, array indices to mm in RAS order, in any orientation.
        spacing: size of the new voxels in mm: one number, or to the right, front and head.

    Returns:
        the smooth volume on the same voxels.
    """
    ras_axis = nib.io_orientation(affine)[:, 0].astype(int)  # of every array axis
    steps = np.broadcast_to(np.asarray(spacing, dtype=float), 3)[ras_axis] / np.linalg.norm(affine[:3, :3], axis=0)
    return gaussian_filter(volume, (*[0] * (volume.ndim - 3), *np.maximum(0, (steps - 1) / 2)))
