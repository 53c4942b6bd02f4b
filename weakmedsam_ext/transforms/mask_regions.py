"""Masks as regions to click on, for training a promptable network on annotated structures."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type
from scipy import ndimage
from torch import Tensor

__all__ = ["MaskRegions", "MaskRegionsD", "MaskRegionsDict", "MaskRegionsd"]


class MaskRegions(Transform):
    """Number the connected components of every class of a mask; faces connect.

    Apply it after every transform that crops or warps the mask.
    """

    def __call__(self, mask: NdarrayOrTensor) -> Tensor:
        """Find the regions.

        Args:
            mask: class indices (1, H, W) or (1, D, H, W), 0 is background.

        Returns:
            int32 of the same shape: numbers from 0 in the order of the classes, background -1, see
            `PromptableTrainer`.

        Raises:
            ValueError: when the mask has more than one channel, or values that are no integers.
        """
        values = convert_data_type(mask, np.ndarray)[0]
        if values.shape[0] != 1:
            raise ValueError(f"mask: expected one channel of class indices, but got shape {tuple(values.shape)}.")
        if (values != np.round(values)).any():
            raise ValueError("mask: expected integer values, but got fractions; resize masks with mode 'nearest'.")
        regions, total = np.full(values.shape, -1, dtype=np.int32), 0
        for value in np.unique(values[values != 0]):
            components, count = ndimage.label(values[0] == value)
            regions[0][components > 0] = components[components > 0] - 1 + total
            total += count
        return torch.from_numpy(regions)


class MaskRegionsd(MapTransform):
    """Dictionary version of `MaskRegions`.

    Args:
        keys: masks.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.regions = MaskRegions()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the masks by their regions in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.regions(item[key])
        return item


MaskRegionsD = MaskRegionsDict = MaskRegionsd
