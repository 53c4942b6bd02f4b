"""Slices padded to squares in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Pad, Padd
from monai.utils import look_up_option

from ..data.slices.geometry import SLICE_AXES, square_padding, voxel_size

__all__ = ["SquarePad", "SquarePadD", "SquarePadDict", "SquarePadd", "plane_axes"]


def plane_axes(dims: int, axis: str) -> tuple[int, int]:
    """Array axes of the rows and columns of slices, channels counted, of volumes in RAS order and of images."""
    stack = SLICE_AXES[look_up_option(axis, list(SLICE_AXES))]
    rows, columns = (one + 1 for one in range(dims) if dims == 2 or one != stack)
    return rows, columns


class SquarePad(Pad):
    """Pad slices with zeros to a square in mm, as `SliceGeometry` does; invertible.

    The voxel size is that of the MetaTensor's affine; without metadata, voxels count as cubes. Volumes must be in RAS
    order, see MONAI's `Orientation`.

    Args:
        axis: which slices of a volume: "axial", "coronal" or "sagittal".
    """

    def __init__(self, axis: str = "axial") -> None:
        super().__init__()
        self.axis: str = look_up_option(axis, list(SLICE_AXES))

    def __call__(self, img: torch.Tensor, to_pad: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Pad an image (C, H, W) or a volume (C, X, Y, Z); arguments as for MONAI's `Pad`."""
        return super().__call__(img, to_pad or self._pad_width(img), *args, **kwargs)

    def _pad_width(self, img: torch.Tensor) -> list[tuple[int, int]]:
        """Padding of the channels and of all spatial axes, in front and behind."""
        shape, affine = list(img.shape), np.eye(img.ndim)
        if isinstance(img, MetaTensor):
            shape[1:] = map(int, img.peek_pending_shape())
            affine = np.asarray(img.peek_pending_affine())[: img.ndim, : img.ndim]
        plane, pixel = plane_axes(img.ndim - 1, self.axis), voxel_size(affine)
        found = square_padding([shape[one] for one in plane], [pixel[one - 1] for one in plane])
        pads = dict(zip(plane, found, strict=True))
        return [pads.get(one, (0, 0)) for one in range(img.ndim)]


class SquarePadd(Padd):
    """Dictionary version of `SquarePad`.

    Args:
        keys: images (C, H, W) or volumes (C, X, Y, Z).
        axis: see `SquarePad`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, axis: str = "axial", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, SquarePad(axis), allow_missing_keys=allow_missing_keys)


SquarePadD = SquarePadDict = SquarePadd
