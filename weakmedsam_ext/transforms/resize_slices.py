"""Slices resized to the input size of a network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys, convert_to_tensor, look_up_option
from torch import Tensor

from ..data.slices.geometry import SLICE_AXES, resize_planes
from .square_pad import plane_axes

__all__ = ["ResizeSlices", "ResizeSlicesD", "ResizeSlicesDict", "ResizeSlicesd"]


class ResizeSlices(InvertibleTransform):
    """Resize slices to img_size x img_size pixels, as `SliceGeometry` does; invertible.

    MONAI's `Resize` blurs before it resizes; this one averages over the pixels that become one. Volumes must be in RAS
    order, see MONAI's `Orientation`, and padded by `SquarePad` if the aspect ratio is to be kept.

    Args:
        img_size: pixels along both sides.
        axis: which slices of a volume: "axial", "coronal" or "sagittal".
        mode: "bilinear" for images, "nearest" for masks.
    """

    def __init__(self, img_size: int, axis: str = "axial", mode: str = "bilinear") -> None:
        self.img_size = img_size
        self.axis: str = look_up_option(axis, list(SLICE_AXES))
        self.mode: str = look_up_option(mode, ("bilinear", "nearest"))

    def __call__(self, img: Tensor) -> Tensor:
        """Resize an image (C, H, W) or a volume (C, X, Y, Z)."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        before = tuple(img.shape[1:])
        plane = plane_axes(len(before), self.axis)
        size = [self.img_size if one + 1 in plane else length for one, length in enumerate(before)]
        out = self._resized(img, size, self.mode)
        if isinstance(out, MetaTensor):
            affine = scale_affine(before, size)
            self.push_transform(out, affine=affine, orig_size=before, extra_info={"mode": self.mode})
        return out

    def inverse(self, data: MetaTensor) -> MetaTensor:
        """Resize back to the size before the last call."""
        transform = self.pop_transform(data)
        size, mode = transform[TraceKeys.ORIG_SIZE], transform[TraceKeys.EXTRA_INFO]["mode"]
        affine = scale_affine(data.shape[1:], size)
        out = self._resized(data, size, "nearest" if "nearest" in mode else "bilinear")
        out.affine = out.affine @ torch.as_tensor(affine, dtype=out.affine.dtype)
        return out

    def _resized(self, img: Tensor, size: Sequence[int], mode: str) -> Any:
        rows, columns = plane_axes(img.ndim - 1, self.axis)
        plain = img.as_tensor() if isinstance(img, MetaTensor) else img
        stack = [one for one in range(img.ndim) if one not in (rows, columns)]
        planes = plain.permute(*stack, rows, columns)
        flat = planes.reshape(-1, 1, *planes.shape[-2:])
        resized = resize_planes(flat, (size[rows - 1], size[columns - 1]), mode)
        resized = resized.reshape(*planes.shape[:-2], *resized.shape[-2:])
        order = [*stack, rows, columns]
        out = resized.permute(*(order.index(one) for one in range(img.ndim))).contiguous()
        return MetaTensor(out).copy_meta_from(img) if isinstance(img, MetaTensor) else out


class ResizeSlicesd(MapTransform, InvertibleTransform):
    """Dictionary version of `ResizeSlices`.

    Args:
        keys: images (C, H, W) or volumes (C, X, Y, Z).
        img_size: see `ResizeSlices`.
        axis: see `ResizeSlices`.
        mode: see `ResizeSlices`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        img_size: int,
        axis: str = "axial",
        mode: str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.resize = ResizeSlices(img_size, axis, mode)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the images in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.resize(item[key])
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Resize the images in a copy of the item back."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.resize.inverse(item[key])
        return item


ResizeSlicesD = ResizeSlicesDict = ResizeSlicesd
