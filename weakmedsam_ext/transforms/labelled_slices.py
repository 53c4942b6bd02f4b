"""Masks of which only a few slices count."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import ceil
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple_rep, look_up_option

from ..data.slices.geometry import SLICE_AXES, voxel_size
from ..losses import IGNORED

__all__ = ["LabelledSlices", "LabelledSlicesD", "LabelledSlicesDict", "LabelledSlicesd"]


class LabelledSlices(Transform):
    """Keep the slices of a mask that show most, and mark all other voxels as unknown (`weakmedsam_ext.losses.IGNORED`).

    For masks that somebody drew in a few slices, and to try how many are enough. A slice without a class is never kept:
    nobody can tell whether it is empty or was not looked at. What a kept slice shows is taken for as thick as a voxel
    of the training, so that it survives resampling by the nearest voxel.

    Args:
        count: slices that are kept at most, 1 or more; equal ones in the order of the file.
        axis: that the slices are stacked along: "axial", "coronal" or "sagittal".
        spacing: size of a voxel of the training in mm, one number or one for each axis in RAS order; 0 keeps the slices
            as thick as they are.

    Raises:
        ValueError: when `count` or `axis` cannot be.
    """

    backend = [TransformBackends.TORCH]

    def __init__(self, count: int = 1, axis: str = "axial", spacing: float | Sequence[float] = 0.0) -> None:
        if count < 1:
            raise ValueError(f"count: expected at least 1 slice, but got {count}.")
        self.count = count
        self.axis = look_up_option(axis, list(SLICE_AXES))
        self.spacing = ensure_tuple_rep(spacing, 3)[SLICE_AXES[self.axis]]

    def __call__(self, mask: NdarrayOrTensor) -> torch.Tensor:
        """Keep some slices of class numbers (1, D, H, W); the affine of a `MetaTensor` tells which axis is which.

        Raises:
            ValueError: when no slice shows a class.
        """
        mask = mask if isinstance(mask, MetaTensor) else MetaTensor(torch.as_tensor(mask))
        affine = np.asarray(mask.affine.cpu())
        stack = int(np.flatnonzero(nib.io_orientation(affine)[:, 0] == SLICE_AXES[self.axis])[0])
        planes = mask.as_tensor().movedim(stack + 1, 0)  # slices first
        area = (planes > 0).flatten(1).sum(1)
        most = torch.argsort(area, descending=True, stable=True)[: self.count]
        chosen = most[area[most] > 0].tolist()
        if not chosen:
            raise ValueError("mask: no slice shows a class; give a mask in which a slice is drawn.")
        kept = torch.full_like(planes, IGNORED)
        reach = ceil(max(0.0, self.spacing / voxel_size(affine)[stack] - 1) / 2)
        for distance in range(reach, -1, -1):  # a slice that is near wins over one that is far
            for index in chosen:
                for near in (index - distance, index + distance):
                    if 0 <= near < len(planes):
                        kept[near] = planes[index]
        return MetaTensor(kept.movedim(0, stack + 1), meta=mask.meta, applied_operations=mask.applied_operations)


class LabelledSlicesd(MapTransform):
    """Dictionary version of `LabelledSlices`.

    Args:
        keys: masks of class numbers.
        count_key: holds the number of slices that count in this item; masks of items without it are left as they are.
        axis: see `LabelledSlices`.
        spacing: see `LabelledSlices`.
        allow_missing_keys: do not raise when a mask is missing.
    """

    backend = LabelledSlices.backend

    def __init__(
        self,
        keys: KeysCollection,
        count_key: str = "labelled_slices",
        axis: str = "axial",
        spacing: float | Sequence[float] = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.count_key = count_key
        self.axis = axis
        self.spacing = spacing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Mark the voxels of all other slices in a copy of the item, without its count."""
        item = dict(data)
        count = item.pop(self.count_key, None)
        if count is not None:
            keep = LabelledSlices(count, self.axis, self.spacing)
            for key in self.key_iterator(item):
                item[key] = keep(item[key])
        return item


LabelledSlicesD = LabelledSlicesDict = LabelledSlicesd
