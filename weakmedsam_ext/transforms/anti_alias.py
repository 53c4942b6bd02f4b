"""Smoothing before a volume is resampled to larger voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import ensure_tuple

from ..data.anti_alias import anti_alias

__all__ = ["AntiAlias", "AntiAliasD", "AntiAliasDict", "AntiAliasd"]


class AntiAlias(Transform):
    """Smooth an image before it is resampled to larger voxels, see `anti_alias`, as `VolumePreprocessing` does.

    Args:
        spacing: size of the voxels that the image will be resampled to, in mm: one number, or to the right, front and
            head.

    Raises:
        ValueError: when the spacing is not one or three positive numbers.
    """

    def __init__(self, spacing: float | Sequence[float]) -> None:
        sizes = ensure_tuple(spacing)
        if len(sizes) not in (1, 3) or not all(size > 0 for size in sizes):
            raise ValueError(f"spacing: expected one or three positive numbers of mm, but got {spacing}.")
        self.spacing = sizes

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Smooth (C, X, Y, Z); voxels and metadata stay where they are."""
        smooth = anti_alias(np.asarray(image), image.affine.numpy(), self.spacing)
        return MetaTensor(torch.from_numpy(smooth)).copy_meta_from(image)


class AntiAliasd(MapTransform):
    """Dictionary version of `AntiAlias`.

    Args:
        keys: images.
        spacing: see `AntiAlias`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, spacing: float | Sequence[float], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.smooth = AntiAlias(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth the images in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.smooth(item[key])
        return item


AntiAliasD = AntiAliasDict = AntiAliasd
