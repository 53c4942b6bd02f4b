"""Targets of promptable pre-training: the regions that contain the clicks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["clicked_regions", "region_numbers"]


def region_numbers(regions: Tensor, points: Tensor) -> Tensor:
    """Numbers of the regions that contain the clicks.

    Args:
        regions: region numbers at L scales, (B, L, H, W) or (B, L, D, H, W).
        points: clicks (B, Q, 2 or 3) in array index order, in pixels or voxels.

    Returns:
        (B, Q, L).
    """
    batch = torch.arange(len(regions), device=regions.device)[:, None]
    index: tuple[Any, ...] = (batch, slice(None), *points.long().unbind(-1))
    return regions[index]


def clicked_regions(regions: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """Regions that contain the clicks, as the part of every cell that they cover.

    Args:
        regions: region numbers at L scales, (B, L, H, W) or (B, L, D, H, W).
        points: clicks (B, Q, 2 or 3) in array index order, in pixels or voxels.
        size: (h, w) or (d, h, w) of the result.

    Returns:
        float32 (B, Q, L, *size) in 0..1.
    """
    clicked = region_numbers(regions, points)
    ones = (1,) * len(size)
    scales = [  # one after the other, because whole volumes for every click take much memory
        F.interpolate((scale.unsqueeze(1) == number.reshape(*number.shape, *ones)).float(), tuple(size), mode="area")
        for scale, number in zip(regions.unbind(1), clicked.unbind(2), strict=True)
    ]
    return torch.stack(scales, dim=2)
