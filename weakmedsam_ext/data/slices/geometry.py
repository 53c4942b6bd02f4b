"""From the voxels of a volume to the square slices that a network sees, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.utils import look_up_option
from torch import Tensor
from torch.nn import functional as F

__all__ = ["SliceGeometry"]

CHUNK = 16  # slices that are resized at once, so that memory does not grow with the volume


@dataclass(frozen=True)
class SliceGeometry:
    """How the slices of one volume became squares of img_size: cropped, padded to a square, resized. Pure data.

    Slices are taken along the last array axis and keep its order; height and width of a slice are the volume's first
    and second axis. The aspect ratio is kept.

    Args:
        shape: of the volume, (X, Y, Z).
        box: the part that was cropped, ((x_start, x_end), (y_start, y_end)), ends excluded.
        img_size: pixels along each side of the network's input.
    """

    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int]]
    img_size: int

    @property
    def extent(self) -> tuple[int, int]:
        """Pixels along the sides of the cropped slice."""
        (x_start, x_end), (y_start, y_end) = self.box
        return x_end - x_start, y_end - y_start

    @property
    def side(self) -> int:
        """Pixels along each side of the padded square."""
        return max(self.extent)

    @property
    def offset(self) -> tuple[int, int]:
        """Where the cropped slice begins in the padded square."""
        height, width = self.extent
        return (self.side - height) // 2, (self.side - width) // 2

    def to_network(self, volume: np.ndarray | Tensor, mode: str = "bilinear") -> Tensor:
        """Bring a volume to the network's grid.

        Args:
            volume: (X, Y, Z), an image or a mask.
            mode: "bilinear" (antialiased) for images, "nearest" for masks.

        Returns:
            (Z, img_size, img_size); float32 for "bilinear", the volume's type for "nearest". The padding is 0.

        Raises:
            ValueError: when the shape is another volume's, or a mask is to be interpolated.
        """
        if tuple(volume.shape) != self.shape:
            raise ValueError(f"volume: expected the shape {self.shape}, but got {tuple(volume.shape)}.")
        (x_start, x_end), (y_start, y_end) = self.box
        (height, width), (top, left) = self.extent, self.offset
        planes = torch.as_tensor(volume)[x_start:x_end, y_start:y_end].permute(2, 0, 1).unsqueeze(1)
        borders = (left, self.side - width - left, top, self.side - height - top)
        chunks = [_resize(F.pad(chunk, borders), self.img_size, mode) for chunk in planes.split(CHUNK)]
        return torch.cat(chunks).squeeze(1)

    def to_volume(self, maps: Tensor, mode: str = "bilinear") -> Tensor:
        """Bring maps on the network's grid back to the volume's own voxels.

        Args:
            maps: (Z, K, img_size, img_size), for example probabilities or masks of K classes.
            mode: "bilinear" (antialiased) for soft maps, "nearest" for masks.

        Returns:
            (K, X, Y, Z); float32 for "bilinear", the maps' type for "nearest". Outside the crop it is 0.

        Raises:
            ValueError: when the shape does not fit, or a mask is to be interpolated.
        """
        expected = (self.shape[2], maps.shape[1] if maps.ndim == 4 else 1, self.img_size, self.img_size)
        if tuple(maps.shape) != expected:
            raise ValueError(
                f"maps: expected shape (Z, K, H, W) = ({self.shape[2]}, K, {self.img_size}, {self.img_size}), "
                f"but got {tuple(maps.shape)}."
            )
        (x_start, x_end), (y_start, y_end) = self.box
        (height, width), (top, left) = self.extent, self.offset
        dtype = maps.dtype if mode == "nearest" else torch.float32
        volume = torch.zeros((maps.shape[1], *self.shape), dtype=dtype, device=maps.device)
        for start in range(0, len(maps), CHUNK):
            planes = _resize(maps[start : start + CHUNK], self.side, mode)[..., top : top + height, left : left + width]
            volume[:, x_start:x_end, y_start:y_end, start : start + CHUNK] = planes.permute(1, 2, 3, 0)
        return volume

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SliceGeometry:
        """Geometry from what `dataclasses.asdict` and JSON have made of it."""
        (x_start, x_end), (y_start, y_end) = content["box"]
        x, y, z = content["shape"]
        return cls((int(x), int(y), int(z)), ((x_start, x_end), (y_start, y_end)), int(content["img_size"]))


def _resize(planes: Tensor, size: int, mode: str) -> Tensor:
    """Resize (N, C, side, side) to (N, C, size, size)."""
    if look_up_option(mode, ("bilinear", "nearest")) == "nearest":
        # "nearest" of torch takes the upper left pixel; "nearest-exact" takes pixel centres and so does not shift
        return F.interpolate(planes.float(), (size, size), mode="nearest-exact").to(planes.dtype)
    if not planes.is_floating_point():
        # interpolated labels dilate: the values between two labels belong to neither
        raise ValueError(f"mode: expected 'nearest' for a mask of type {planes.dtype}, but got {mode!r}.")
    return F.interpolate(planes.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)
