"""Image-level labels: which classes are visible in a slice, from its mask."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["ImageLevelLabel", "ImageLevelLabelD", "ImageLevelLabelDict", "ImageLevelLabeld"]


class ImageLevelLabel(Transform):
    """Image-level label of a mask.

    Apply it after every transform that crops or warps the mask, so that the label says what is left to see.

    Args:
        label_values: for each of the K classes, the mask values that belong to it; K consecutive values from 1 if an
            integer is given.
        min_pixels: a class with fewer pixels (or voxels) counts as absent.

    Raises:
        ValueError: when there is no class, or `min_pixels` is below 1.
    """

    def __init__(self, label_values: int | Sequence[int | Sequence[int]] = 1, min_pixels: int = 1) -> None:
        values = range(1, label_values + 1) if isinstance(label_values, int) else label_values
        self.label_values = [[value] if isinstance(value, int) else list(value) for value in values]
        if not self.label_values:
            raise ValueError("label_values: expected at least one class, but got none.")
        if min_pixels < 1:
            raise ValueError(f"min_pixels: expected at least 1, but got {min_pixels}.")
        self.min_pixels = min_pixels

    def __call__(self, mask: NdarrayOrTensor) -> Tensor:
        """Label a mask of integers, (1, H, W[, D]).

        Returns:
            float32 (K,), 1 where the class is visible.

        Raises:
            ValueError: when the mask has more than one channel, or values that are no integers.
        """
        values = convert_to_tensor(mask, track_meta=False)
        if values.shape[0] != 1:
            raise ValueError(f"mask: expected one channel of class indices, but got shape {tuple(values.shape)}.")
        if values.is_floating_point() and not (values == values.round()).all():
            raise ValueError("mask: expected integer values, but got fractions; resize masks with mode 'nearest'.")
        wanted = [torch.tensor(one, dtype=values.dtype, device=values.device) for one in self.label_values]
        counts = [torch.isin(values, one).sum() for one in wanted]
        return (torch.stack(counts) >= self.min_pixels).float()


class ImageLevelLabeld(MapTransform):
    """Dictionary version of `ImageLevelLabel`; the label of `keys` goes to `output_keys`.

    Args:
        keys: masks.
        output_keys: where the labels go.
        label_values: see `ImageLevelLabel`.
        min_pixels: see `ImageLevelLabel`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_keys: KeysCollection = "class_label",
        label_values: int | Sequence[int | Sequence[int]] = 1,
        min_pixels: int = 1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_keys = [output_keys] if isinstance(output_keys, str) else list(output_keys)
        if len(self.output_keys) != len(self.keys):
            raise ValueError(f"output_keys: expected one for each of {self.keys}, but got {self.output_keys}.")
        self.label = ImageLevelLabel(label_values, min_pixels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the labels to a copy of the item."""
        item = dict(data)
        for key, output in self.key_iterator(item, self.output_keys):
            item[output] = self.label(item[key])
        return item


ImageLevelLabelD = ImageLevelLabelDict = ImageLevelLabeld
