"""Clicks given in voxels of the original image, drawn on the grid of the transformed image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import MetaKeys
from torch import Tensor

from ..data.cases import image_file
from ..data.clicks import is_click

__all__ = ["DrawClicks", "DrawClicksD", "DrawClicksDict", "DrawClicksd"]

TOLERANCE = 1.0  # cells; resampled grids begin and end within a cell of the image's border


class DrawClicks(Transform):
    """Click map of an image: 1 at clicks on the object, -1 at clicks on the background, 0 elsewhere.

    The original and the present affine matrix of the image map a click, so apply this transform after those that turn,
    resample, resize or crop. Of two clicks in one cell the last one counts.
    """

    def __call__(self, clicks: Sequence[Sequence[int]], image: MetaTensor) -> Tensor:
        """Draw clicks.

        Args:
            clicks: [i, j, k, label] each: array indices of a voxel of the image as it was read, and 1 for the object or
                0 for the background.
            image: (C, X, Y, Z), with the metadata that `LoadImage` gives.

        Returns:
            float32 (1, X, Y, Z), with the image's metadata.

        Raises:
            ValueError: when the image has no such metadata, or a click is malformed, lies outside the image, or was
                cropped away; names the image.
        """
        if not isinstance(image, MetaTensor) or MetaKeys.ORIGINAL_AFFINE not in image.meta:
            raise ValueError("image: expected a MetaTensor with original_affine; read it with LoadImaged.")
        file = image_file(image)
        if not isinstance(clicks, Sequence) or isinstance(clicks, str):
            raise ValueError(
                f"clicks on {file}: expected a list of clicks, but got {clicks!r}; give [[i, j, k, label], ...]."
            )
        shape = [int(size) for size in image.meta[MetaKeys.SPATIAL_SHAPE]]
        original = torch.as_tensor(image.meta[MetaKeys.ORIGINAL_AFFINE], dtype=torch.float64)
        to_cells = torch.linalg.inv(image.affine.double()) @ original
        drawn = torch.zeros((1, *image.shape[1:]))
        for click in clicks:
            voxel, label = _checked(click, shape, file)
            cell = to_cells @ torch.tensor([*voxel, 1.0], dtype=torch.float64)
            drawn[(0, *_inside(cell[:3].tolist(), drawn.shape[1:], voxel, file))] = 1.0 if label else -1.0
        return MetaTensor(drawn).copy_meta_from(image)


class DrawClicksd(MapTransform):
    """Dictionary version of `DrawClicks`. An item without a key of `keys` has no clicks.

    Viewers of MONAI Label send clicks under two keys of their own, lists of [i, j, k]; these are drawn too, after the
    others.

    Args:
        keys: lists of clicks, replaced by click maps.
        ref_image_key: the image that was clicked.
        foreground_key: of clicks on the object, as viewers send them.
        background_key: of clicks on the background.
    """

    def __init__(
        self,
        keys: KeysCollection = "clicks",
        ref_image_key: str = "image",
        foreground_key: str = "foreground",
        background_key: str = "background",
    ) -> None:
        super().__init__(keys)
        self.ref_image_key = ref_image_key
        self.viewer_keys = {foreground_key: 1, background_key: 0}
        self.draw = DrawClicks()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw the clicks in a copy of the item."""
        item = dict(data)
        image = item[self.ref_image_key]
        sent = [
            _sent(point, label, image_file(image))
            for key, label in self.viewer_keys.items()
            for point in item.get(key) or ()
        ]
        for key in self.keys:
            clicks = item.get(key, ())
            # what is no list is named by the drawing
            item[key] = self.draw([*clicks, *sent] if isinstance(clicks, (list, tuple)) else clicks, image)
        return item


def _sent(point: Any, label: int, file: str) -> list[int]:
    """Click of a viewer, whose numbers may be fractions of a voxel."""
    if not isinstance(point, Sequence) or not all(isinstance(one, (int, float)) and isfinite(one) for one in point):
        raise ValueError(
            f"clicks on {file}: expected a list of points [i, j, k], but got the point {point!r}; click again."
        )
    return [*map(round, point), label]


def _checked(click: Any, shape: Sequence[int], file: str) -> tuple[list[int], int]:
    """Voxel and label of a click."""
    if not is_click(click):
        raise ValueError(
            f"clicks on {file}: expected whole numbers [i, j, k, label] with label 1 or 0, but got {click!r}; "
            "correct it."
        )
    *voxel, label = click
    if not all(0 <= index < size for index, size in zip(voxel, shape, strict=True)):
        raise ValueError(
            f"clicks on {file}: {voxel} lies outside the image of {shape} voxels; count from 0 along its axes."
        )
    return voxel, label


def _inside(cell: Sequence[float], shape: Sequence[int], voxel: Sequence[int], file: str) -> list[int]:
    """Cell of a click, moved onto the grid where it misses it by rounding only."""
    if not all(-TOLERANCE <= index <= size - 1 + TOLERANCE for index, size in zip(cell, shape, strict=True)):
        raise ValueError(
            f"clicks on {file}: {voxel} lies in a dark margin of the image, which is cut off; click on the body."
        )
    return [min(max(round(index), 0), size - 1) for index, size in zip(cell, shape, strict=True)]


DrawClicksD = DrawClicksDict = DrawClicksd
