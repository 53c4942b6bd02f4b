"""Map volumes to the square slices that a network sees, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.utils import look_up_option
from torch import Tensor
from torch.nn import functional as F

from ..io import Grid

__all__ = ["SLICE_AXES", "SliceGeometry", "resize_planes", "square_padding", "voxel_size"]

# anatomical direction of slices -> axis of a volume in RAS order that they are stacked along
SLICE_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
CHUNK = 16  # slices that are resized at once, so that memory does not grow with the volume
Box = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class SliceGeometry:
    """Mapping between a volume and its slices of img_size x img_size pixels; holds numbers only.

    Slices are stacked along an anatomical axis of the volume in RAS order: axial slices from foot to head, coronal ones
    from back to front, sagittal ones from left to right. Rows and columns are the other two axes, also in RAS order. An
    oblique volume keeps its own axes, each named after the nearest anatomical one. Slices are cropped, padded with
    zeros to a square in mm (to the nearest voxel) and resized, so they keep their aspect ratio.

    Arrays of the volume are in the file's own order everywhere; nobody else has to reorient anything.

    Args:
        shape: of the array in the file.
        box: the part that was cropped, ((row_start, row_end), (column_start, column_end)), ends excluded.
        img_size: pixels along each side of the network's input.
        axes: array axes of the file that are the rows, the columns and the stack of slices.
        flips: which of the three run against RAS in the file.
        pixel: size of a voxel along the rows and the columns in mm.
    """

    shape: tuple[int, int, int]
    box: Box
    img_size: int
    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)
    pixel: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of_grid(cls, grid: Grid, img_size: int, axis: str = "axial", box: Box | None = None) -> SliceGeometry:
        """Geometry of a volume.

        Args:
            grid: shape and affine of the file.
            img_size: pixels along each side of a slice.
            axis: "axial", "coronal" or "sagittal".
            box: the part of each slice to keep; all of it without.
        """
        stack = SLICE_AXES[look_up_option(axis, list(SLICE_AXES))]
        orientation = nib.io_orientation(grid.affine)
        # RAS axis -> array axis of the file
        order = np.argsort(orientation[:, 0])
        first, second, third = (int(order[one]) for one in (*(a for a in range(3) if a != stack), stack))
        axes = first, second, third
        down, across, along = (bool(orientation[one, 1] < 0) for one in axes)
        sizes = voxel_size(grid.affine)
        whole = (0, grid.shape[first]), (0, grid.shape[second])
        pixel = sizes[first], sizes[second]
        return cls(grid.shape, box or whole, img_size, axes, (down, across, along), pixel)

    @property
    def num_slices(self) -> int:
        """Slices of the volume."""
        return self.shape[self.axes[2]]

    @property
    def extent(self) -> tuple[int, int]:
        """Voxels along the sides of the cropped slice."""
        (row_start, row_end), (column_start, column_end) = self.box
        return row_end - row_start, column_end - column_start

    @property
    def padding(self) -> Box:
        """Voxels that are added to the cropped slice, ((above, below), (left, right))."""
        return square_padding(self.extent, self.pixel)

    @property
    def padded(self) -> tuple[int, int]:
        """Voxels along the sides of the padded slice, which is a square in mm."""
        rows, columns = (size + sum(pad) for size, pad in zip(self.extent, self.padding, strict=True))
        return rows, columns

    @property
    def window(self) -> Box:
        """Rectangle of the network's input that is image, ((row_start, row_end), (column_start, column_end))."""
        rows, columns = (
            _window(pad[0], size, total, self.img_size)
            for pad, size, total in zip(self.padding, self.extent, self.padded, strict=True)
        )
        return rows, columns

    @property
    def valid(self) -> Tensor:
        """Mask of the network's input, bool (img_size, img_size): True for image, False for padding."""
        valid = torch.zeros((self.img_size, self.img_size), dtype=torch.bool)
        valid[slice(*self.window[0]), slice(*self.window[1])] = True
        return valid

    def spacing(self, grid: Grid) -> tuple[float, float, float]:
        """Voxel size of the network's input in mm: along rows, columns and the stack of slices."""
        rows, columns = (n * size / self.img_size for n, size in zip(self.padded, self.pixel, strict=True))
        return rows, columns, voxel_size(grid.affine)[self.axes[2]]

    def file_index(self, index: int) -> int:
        """Convert a slice number to that of the file, which viewers show, or back; both count from 0."""
        return self.num_slices - 1 - index if self.flips[2] else index

    def planes(self, volume: np.ndarray | Tensor) -> Tensor:
        """Slices of a volume at full size, (slices, rows, columns).

        Args:
            volume: in the file's order.

        Raises:
            ValueError: when the shape is another volume's.
        """
        if tuple(volume.shape) != self.shape:
            raise ValueError(f"volume: expected the shape {self.shape}, but got {tuple(volume.shape)}.")
        rows, columns, stack = self.axes
        return torch.as_tensor(volume).permute(stack, rows, columns).flip(self._flipped((1, 2, 0)))

    def from_planes(self, planes: Tensor) -> Tensor:
        """Volume in the file's order, (K, *shape), of slices at full size (slices, K, rows, columns)."""
        planes = planes.flip(self._flipped((2, 3, 0)))
        back = {axis: dim for axis, dim in zip(self.axes, (2, 3, 0), strict=True)}
        return planes.permute(1, *(back[axis] for axis in range(3))).contiguous()

    def to_network(self, volume: np.ndarray | Tensor, mode: str = "bilinear") -> Tensor:
        """Bring a volume to the network's grid.

        Args:
            volume: an image or a mask, in the file's order.
            mode: "bilinear" (antialiased) for images, "nearest" for masks.

        Returns:
            (slices, img_size, img_size); float32 for "bilinear", the volume's type for "nearest". The padding is 0.

        Raises:
            ValueError: when the shape is another volume's, or a mask is to be interpolated.
        """
        rows, columns = self.box
        planes = self.planes(volume)[:, slice(*rows), slice(*columns)].unsqueeze(1)
        borders = [*self.padding[1], *self.padding[0]]
        size = (self.img_size, self.img_size)
        chunks = [resize_planes(F.pad(chunk, borders).contiguous(), size, mode) for chunk in planes.split(CHUNK)]
        return torch.cat(chunks).squeeze(1)

    def to_planes(self, maps: Tensor, mode: str = "bilinear") -> Tensor:
        """Bring maps on the network's grid back to slices at full size; see `to_volume`.

        Returns:
            (slices, K, rows, columns).
        """
        expected = (self.num_slices, maps.shape[1] if maps.ndim == 4 else 1, self.img_size, self.img_size)
        if tuple(maps.shape) != expected:
            raise ValueError(
                f"maps: expected shape (Z, K, H, W) = ({self.num_slices}, K, {self.img_size}, {self.img_size}), "
                f"but got {tuple(maps.shape)}."
            )
        dtype = maps.dtype if mode == "nearest" else torch.float32
        size = [self.shape[axis] for axis in self.axes[:2]]
        planes = torch.zeros((self.num_slices, maps.shape[1], *size), dtype=dtype, device=maps.device)
        kept = [slice(pad[0], pad[0] + length) for pad, length in zip(self.padding, self.extent, strict=True)]
        rows, columns = self.box
        for start in range(0, len(maps), CHUNK):
            chunk = self._resized_back(maps[start : start + CHUNK], mode)
            planes[start : start + CHUNK, :, slice(*rows), slice(*columns)] = chunk[..., kept[0], kept[1]]
        return planes

    def to_volume(self, maps: Tensor, mode: str = "bilinear") -> Tensor:
        """Bring maps on the network's grid back to the file's own voxels. Values in the padding take no part.

        Args:
            maps: (slices, K, img_size, img_size), for example probabilities or masks of K classes.
            mode: "bilinear" (antialiased) for soft maps, "nearest" for masks.

        Returns:
            (K, *shape); float32 for "bilinear", the maps' type for "nearest". Outside the crop it is 0.

        Raises:
            ValueError: when the shape does not fit, or a mask is to be interpolated.
        """
        return self.from_planes(self.to_planes(maps, mode))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SliceGeometry:
        """Geometry from what `dataclasses.asdict` and JSON have made of it."""
        (row_start, row_end), (column_start, column_end) = content["box"]
        x, y, z = content["shape"]
        rows, columns, stack = content["axes"]
        down, across, along = content["flips"]
        height, width = content["pixel"]
        return cls(
            (int(x), int(y), int(z)),
            ((row_start, row_end), (column_start, column_end)),
            int(content["img_size"]),
            (int(rows), int(columns), int(stack)),
            (bool(down), bool(across), bool(along)),
            (float(height), float(width)),
        )

    def _flipped(self, dims: tuple[int, int, int]) -> list[int]:
        """Dimensions to flip, given those of rows, columns and stack."""
        return [dim for dim, flip in zip(dims, self.flips, strict=True) if flip]

    def _resized_back(self, maps: Tensor, mode: str) -> Tensor:
        """Maps (N, K, img_size, img_size) at the size of the padded slices."""
        if mode == "nearest" or self.padded == self.extent:
            return resize_planes(maps, self.padded, mode)
        # weighted means of image pixels only: the zeros of the padding would darken the border
        valid = self.valid.to(maps.device)
        total = resize_planes(torch.where(valid, maps, torch.zeros_like(maps)), self.padded, mode)
        return total / resize_planes(valid[None, None].float(), self.padded, mode).clamp_min(1e-6)


def voxel_size(affine: np.ndarray) -> list[float]:
    """Size of a voxel along every array axis in mm; rounded, because headers store single precision."""
    return np.linalg.norm(affine[:-1, :-1], axis=0).round(5).tolist()


def square_padding(size: Sequence[int], pixel: Sequence[float] = (1.0, 1.0)) -> Box:
    """Padding that makes a slice square in mm, to the nearest pixel; the longer side is left as it is.

    Args:
        size: pixels along both sides.
        pixel: size of a pixel along both sides in mm.

    Returns:
        pixels in front and behind, for both sides. Odd numbers put the smaller half in front.
    """
    side = max(number * length for number, length in zip(size, pixel, strict=True))
    missing = [max(0, round(side / length) - number) for number, length in zip(size, pixel, strict=True)]
    rows, columns = ((number // 2, number - number // 2) for number in missing)
    return rows, columns


def resize_planes(planes: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Resize images (N, C, H, W), antialiased, or masks.

    Args:
        planes: images or masks.
        size: new height and width.
        mode: "bilinear" for images, "nearest" for masks.

    Returns:
        float32 for "bilinear", the type of what was given for "nearest".

    Raises:
        ValueError: when a mask is to be interpolated.
    """
    height, width = size
    if look_up_option(mode, ("bilinear", "nearest")) == "nearest":
        # "nearest" of torch takes the upper left pixel; "nearest-exact" takes pixel centres and so does not shift
        return F.interpolate(planes.float(), (height, width), mode="nearest-exact").to(planes.dtype)
    if not planes.is_floating_point():
        # interpolated labels dilate: the values between two labels belong to neither
        raise ValueError(f"mode: expected 'nearest' for a mask of type {planes.dtype}, but got {mode!r}.")
    return F.interpolate(planes.float(), (height, width), mode="bilinear", align_corners=False, antialias=True)


def _window(before: int, size: int, total: int, img_size: int) -> tuple[int, int]:
    """Range of network pixels whose centres lie on the image; at least one pixel.

    Args:
        before: voxels of padding in front.
        size: voxels of the image.
        total: voxels of the padded image.
        img_size: pixels of the network's grid.
    """
    # pixel i has its centre at (i + 0.5) * total / img_size voxels; whole numbers, so that nothing is rounded
    start = -((total - 2 * before * img_size) // (2 * total))
    end = -((total - 2 * (before + size) * img_size) // (2 * total))
    return (start, end) if end > start else (min(start, img_size - 1), min(start, img_size - 1) + 1)
