"""Loss of promptable pre-training: a click asks for the region around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .prompt_loss import PromptLoss

__all__ = ["RegionClickLoss", "clicked_regions", "region_numbers"]


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
    scales = [  # one after the other: whole volumes for every click take much memory
        F.interpolate((scale.unsqueeze(1) == number.reshape(*number.shape, *ones)).float(), tuple(size), mode="area")
        for scale, number in zip(regions.unbind(1), clicked.unbind(2), strict=True)
    ]
    return torch.stack(scales, dim=2)


class RegionClickLoss(nn.Module):
    """`PromptLoss` of random clicks against the regions around them.

    By default the masks of an ambiguous click learn the scales of the regions in their order, for example fine to
    coarse. The single mask learns the middle scale.

    Args:
        focal_weight: see `PromptLoss`.
        gamma: see `PromptLoss`.
        assignment: see `PromptLoss`.
        spread: see `PromptLoss`.

    Raises:
        ValueError: when a setting is out of range or unknown.
    """

    def __init__(
        self, focal_weight: float = 20.0, gamma: float = 2.0, assignment: str = "order", spread: float = 0.05
    ) -> None:
        super().__init__()
        self.prompt_loss = PromptLoss(focal_weight, gamma, assignment, spread)

    def forward(self, input: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            input: mask logits (B, Q, M, h, w), predicted IoU (B, Q, M) and clicks (B, Q, 2) as x and y, see
                `RandomClicks`.
            target: region numbers at L scales, (B, L, H, W).

        Returns:
            scalar.

        Raises:
            ValueError: when the regions are no images, or do not have the scales that the assignment wants.
        """
        logits, iou, points = input
        if target.ndim != 4:
            raise ValueError(f"target: expected regions of shape (B, L, H, W), but got {tuple(target.shape)}.")
        if logits.shape[2] == 1:
            middle = target.shape[1] // 2
            target = target[:, middle : middle + 1]
        return self.prompt_loss(logits, iou, clicked_regions(target, points.flip(-1), logits.shape[3:]))
