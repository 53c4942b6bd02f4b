"""Apply a two-dimensional transform to every slice of a volume."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform

__all__ = ["SliceWise", "SliceWiseD", "SliceWiseDict", "SliceWised"]


class SliceWise(Transform):
    """Apply a transform of (C, H, W) to the slices of (C, X, Y, Z) and stack the results.

    Args:
        transform: maps a slice to a slice.
        spatial_dim: spatial axis along which slices are taken: 0, 1, 2, or -1 for the last.

    Raises:
        ValueError: when `spatial_dim` is no axis of a volume.
    """

    def __init__(self, transform: Callable[[NdarrayOrTensor], NdarrayOrTensor], spatial_dim: int = -1) -> None:
        if spatial_dim not in (-1, 0, 1, 2):
            raise ValueError(f"spatial_dim: expected 0, 1, 2 or -1, but got {spatial_dim}.")
        self.transform = transform
        self.axis = spatial_dim if spatial_dim < 0 else spatial_dim + 1

    def __call__(self, volume: NdarrayOrTensor) -> NdarrayOrTensor:
        """Transform a volume (C, X, Y, Z).

        Raises:
            ValueError: when it is no volume with channels.
        """
        if volume.ndim != 4:
            raise ValueError(f"volume: expected (C, X, Y, Z), but got shape {tuple(volume.shape)}.")
        if isinstance(volume, np.ndarray):
            planes = [self.transform(volume.take(i, self.axis)) for i in range(volume.shape[self.axis])]
            return np.stack(planes, self.axis)
        return torch.stack([self.transform(plane) for plane in volume.unbind(self.axis)], self.axis)


class SliceWised(MapTransform):
    """Dictionary version of `SliceWise`.

    Args:
        keys: volumes.
        transform: maps a slice to a slice.
        spatial_dim: spatial axis along which slices are taken.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        transform: Callable[[NdarrayOrTensor], NdarrayOrTensor],
        spatial_dim: int = -1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.slice_wise = SliceWise(transform, spatial_dim)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the volumes in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.slice_wise(item[key])
        return item


SliceWiseD = SliceWiseDict = SliceWised
