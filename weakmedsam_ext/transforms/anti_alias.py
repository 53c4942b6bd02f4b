"""Smoothing before a volume is resampled to larger voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from scipy.ndimage import gaussian_filter

__all__ = ["AntiAlias", "AntiAliasD", "AntiAliasDict", "AntiAliasd"]


class AntiAlias(Transform):
    """Smooth an image so that voxels which are skipped by larger steps count too, as `VolumePreprocessing` does.

    The standard deviation along an axis is (s - 1) / 2 for a step of s voxels, that of MONAI's `Resize`.

    Args:
        spacing: side of the voxels that the image will be resampled to, in mm.

    Raises:
        ValueError: when the spacing is not positive.
    """

    def __init__(self, spacing: float) -> None:
        if not spacing > 0:
            raise ValueError(f"spacing: expected a positive number of mm, but got {spacing}.")
        self.spacing = spacing

    def __call__(self, image: MetaTensor) -> MetaTensor:
        """Smooth (C, X, Y, Z); voxels and metadata stay where they are."""
        steps = self.spacing / np.asarray(image.pixdim)
        smooth = gaussian_filter(np.asarray(image), (0, *np.maximum(0, (steps - 1) / 2)))
        return MetaTensor(torch.from_numpy(smooth)).copy_meta_from(image)


class AntiAliasd(MapTransform):
    """Dictionary version of `AntiAlias`.

    Args:
        keys: images.
        spacing: see `AntiAlias`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, spacing: float, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.smooth = AntiAlias(spacing)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Smooth the images in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.smooth(item[key])
        return item


AntiAliasD = AntiAliasDict = AntiAliasd
