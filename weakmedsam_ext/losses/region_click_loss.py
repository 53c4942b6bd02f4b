"""Loss of promptable pre-training: a click asks for the region around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RegionClickLoss", "clicked_regions"]


def clicked_regions(regions: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """Regions that contain the clicks, as the part of every cell that they cover.

    Args:
        regions: region numbers at L scales, (B, L, H, W).
        points: clicks (B, Q, 2), x and y in pixels.
        size: (h, w) of the result.

    Returns:
        float32 (B, Q, L, h, w) in 0..1.
    """
    batch = torch.arange(len(regions), device=regions.device)[:, None]
    clicked = regions[batch, :, points[..., 1].long(), points[..., 0].long()]  # (B, Q, L)
    inside = (regions.unsqueeze(1) == clicked[..., None, None]).float()
    return F.interpolate(inside.flatten(0, 1), size, mode="area").unflatten(0, points.shape[:2])


class RegionClickLoss(nn.Module):
    """Focal and Dice loss (20:1) of the masks plus the squared error of the predicted IoU (Kirillov et al., ICCV 2023).

    The three masks of an ambiguous click learn the three scales of the regions, fine to coarse; the single mask learns
    the middle one.

    Args:
        focal_weight: of the focal loss.
        gamma: of the focal loss (Lin et al., ICCV 2017).
    """

    def __init__(self, focal_weight: float = 20.0, gamma: float = 2.0) -> None:
        super().__init__()
        self.focal_weight = focal_weight
        self.gamma = gamma

    def forward(self, input: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            input: mask logits (B, Q, M, h, w), predicted IoU (B, Q, M) and clicks (B, Q, 2), see `RandomClicks`.
            target: region numbers at three scales, (B, 3, H, W).

        Returns:
            scalar.

        Raises:
            ValueError: when the regions do not have three scales.
        """
        logits, iou, points = input
        if target.ndim != 4 or target.shape[1] != 3:
            raise ValueError(f"target: expected regions of shape (B, 3, H, W), but got {tuple(target.shape)}.")
        logits = logits.float()
        wanted = clicked_regions(target, points, (logits.shape[-2], logits.shape[-1]))
        if logits.shape[2] == 1:
            wanted = wanted[:, :, 1:2]
        probability = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        focal = ((probability - wanted).abs() ** self.gamma * entropy).mean()
        overlap, total = (probability * wanted).sum((-2, -1)), (probability + wanted).sum((-2, -1))
        dice = (1 - (2 * overlap + 1) / (total + 1)).mean()
        with torch.no_grad():
            found, sought = logits > 0, wanted > 0.5
            union = (found | sought).sum((-2, -1)).clamp(min=1)
            true_iou = (found & sought).sum((-2, -1)) / union
        return self.focal_weight * focal + dice + F.mse_loss(iou.float(), true_iou)
