"""Crop a volume to a box around the clicks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Crop, Cropd
from monai.utils import ensure_tuple_rep
from torch import Tensor

from ..data.cases import image_file

__all__ = ["CropAroundClicks", "CropAroundClicksD", "CropAroundClicksDict", "CropAroundClicksd"]


class CropAroundClicks(Crop):
    """Crop a box around all clicks. The box stays inside the image; an axis shorter than the box is not cropped.

    Invertible, see MONAI's `Invertd`.

    Args:
        roi_size: sides of the box in cells, or one for all.
    """

    def __init__(self, roi_size: Sequence[int] | int) -> None:
        super().__init__()
        self.roi_size = roi_size

    def box(self, clicks: Tensor) -> tuple[slice, ...]:
        """Box around the clicks of a map (1, *spatial), see `DrawClicks`; in the middle where there are none.

        Raises:
            ValueError: when the clicks do not fit into one box.
        """
        shape = clicks.shape[1:]
        sizes = ensure_tuple_rep(self.roi_size, len(shape))
        where = torch.nonzero(clicks[0].as_subclass(Tensor))
        first, last = (
            (where.amin(0), where.amax(0)) if len(where) else (torch.zeros(len(shape)), torch.tensor(shape) - 1)
        )
        spans = (last - first + 1).tolist()
        if len(where) and any(span > size for span, size in zip(spans, sizes, strict=True)):
            raise ValueError(
                f"clicks on {image_file(clicks)}: expected all of them in a box of {sizes} cells, but got {spans}; "
                "click closer together, or raise the voxel spacing."
            )
        # of an even box the middle is its first cell behind the centre, so that clicks may span all of it
        middles = ((first + last + 1) // 2).tolist()
        starts = [
            int(min(max(middle - size // 2, 0), max(length - size, 0)))
            for middle, size, length in zip(middles, sizes, shape, strict=True)
        ]
        return tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


class CropAroundClicksd(Cropd):
    """Dictionary version of `CropAroundClicks`.

    Args:
        keys: images to crop, among them the click map.
        roi_size: see `CropAroundClicks`.
        source_key: the click map.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        roi_size: Sequence[int] | int,
        source_key: str = "clicks",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, CropAroundClicks(roi_size), allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Crop the images in a copy of the item."""
        item: dict[Hashable, Any] = dict(data)
        box = self.cropper.box(item[self.source_key])  # type: ignore[attr-defined]
        for key in self.key_iterator(item):
            item[key] = self.cropper(item[key], box, lazy=bool(lazy))  # type: ignore[call-arg]
        return item


CropAroundClicksD = CropAroundClicksDict = CropAroundClicksd
