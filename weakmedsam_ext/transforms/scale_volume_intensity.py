"""Scale the intensities of volumes to 0..1, as the slice store does."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from ..data.cases import image_file
from ..data.intensity import IntensityScaling

__all__ = ["ScaleVolumeIntensity", "ScaleVolumeIntensityd"]


class ScaleVolumeIntensity(Transform):
    """Scale every channel to 0..1, see `IntensityScaling`.

    Args:
        percentiles: see `IntensityScaling`.
        window: see `IntensityScaling`.
        foreground: see `IntensityScaling`.

    Raises:
        ValueError: when a range is none, or a channel is constant or has equal percentiles.
    """

    def __init__(
        self,
        percentiles: Sequence[float] = (0.5, 99.5),
        window: Sequence[float] | None = None,
        foreground: bool = False,
    ) -> None:
        self.scaling = IntensityScaling(percentiles, window, foreground)

    def __call__(self, img: NdarrayOrTensor) -> torch.Tensor:
        """Scale an image (C, *spatial); its metadata stays."""
        meta = img if isinstance(img, MetaTensor) else None
        name = image_file(img)
        names = [name if len(img) == 1 else f"channel {number} of {name}" for number in range(len(img))]
        scaled = torch.from_numpy(
            np.stack([self.scaling(np.asarray(channel), one) for channel, one in zip(img, names, strict=True)])
        )
        if meta is None:
            return scaled
        return MetaTensor(scaled, meta=meta.meta, applied_operations=meta.applied_operations)


class ScaleVolumeIntensityd(MapTransform):
    """Dictionary version of `ScaleVolumeIntensity`."""

    def __init__(
        self,
        keys: KeysCollection,
        percentiles: Sequence[float] = (0.5, 99.5),
        window: Sequence[float] | None = None,
        foreground: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = ScaleVolumeIntensity(percentiles, window, foreground)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Scale the images of an item."""
        scaled = dict(data)
        for key in self.key_iterator(scaled):
            scaled[key] = self.scale(scaled[key])
        return scaled
