"""Loss of a promptable network that answers an ambiguous click with several masks."""

from __future__ import annotations

import torch
from monai.utils import look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ASSIGNMENTS", "PromptLoss", "mask_iou"]

ASSIGNMENTS = ("minimum", "order")


def mask_iou(found: Tensor, wanted: Tensor, spatial_dims: int) -> Tensor:
    """Intersection over union of bool masks (..., *grid) and (..., *grid) that broadcast; 0 where both are empty."""
    axes = tuple(range(-spatial_dims, 0))
    return (found & wanted).sum(axes) / (found | wanted).sum(axes).clamp(min=1)


class PromptLoss(nn.Module):
    """Focal and Dice loss (20:1) of the masks plus the squared error of the predicted IoU (Kirillov et al., ICCV 2023).

    A click may mean any of L targets, and the network answers with M masks. Assignments:

    - "minimum": the mask that fits a target best learns it. With the small weight `spread` all masks learn it, since a
      mask that never fits best would learn nothing (Rupprecht et al., ICCV 2017). Each mask predicts its IoU with the
      target that it fits best.
    - "order": mask i learns target i and predicts its IoU with that; M and L are equal.

    Args:
        focal_weight: weight of the focal loss.
        gamma: exponent of the focal loss (Lin et al., ICCV 2017).
        assignment: "minimum" or "order".
        spread: weight in 0..1 of the mean over all masks; the best one has the rest. For "minimum" only.

    Raises:
        ValueError: when a setting is out of range or unknown.
    """

    def __init__(
        self, focal_weight: float = 20.0, gamma: float = 2.0, assignment: str = "minimum", spread: float = 0.05
    ) -> None:
        super().__init__()
        if not 0 <= spread <= 1:
            raise ValueError(f"spread: expected a value in 0..1, but got {spread}.")
        self.focal_weight = focal_weight
        self.gamma = gamma
        self.assignment: str = look_up_option(assignment, ASSIGNMENTS)
        self.spread = spread

    def forward(self, logits: Tensor, iou: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: masks (B, Q, M, h, w) or (B, Q, M, d, h, w) for Q prompts.
            iou: predicted IoU, (B, Q, M).
            target: (B, Q, L, h, w) or (B, Q, L, d, h, w), the part of every cell that belongs to the target, in 0..1.
            weight: of every prompt, (B, Q), for example 0 for a prompt without target; 1 unless given.

        Returns:
            scalar, 0 when all weights are.

        Raises:
            ValueError: when shapes do not fit each other.
        """
        self._check(logits, iou, target)
        logits, target = logits.float(), target.float()
        if self.assignment == "order":
            cost = self._mask_cost(logits, target)  # (B, Q, M)
            true_iou = mask_iou(logits > 0, target > 0.5, logits.ndim - 3)
            total = cost.mean(-1)
        else:
            targets = [one.unsqueeze(2) for one in target.unbind(2)]
            cost = torch.stack([self._mask_cost(logits, one) for one in targets], -1)  # (B, Q, M, L)
            fits = torch.stack([mask_iou(logits > 0, one > 0.5, logits.ndim - 3) for one in targets], -1)
            true_iou = fits.amax(-1)
            total = ((1 - self.spread) * cost.amin(2) + self.spread * cost.mean(2)).mean(-1)
        total = total + (iou.float() - true_iou).square().mean(-1)  # (B, Q)
        if weight is None:
            return total.mean()
        weight = weight.to(total.dtype)
        return (weight * total).sum() / weight.sum().clamp(min=torch.finfo(total.dtype).tiny)

    def _mask_cost(self, logits: Tensor, target: Tensor) -> Tensor:
        """Focal and Dice loss of masks (B, Q, M, *grid) to targets (B, Q, M or 1, *grid), (B, Q, M)."""
        target = target.expand_as(logits)
        axes = tuple(range(3, logits.ndim))
        probability = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        focal = ((probability - target).abs() ** self.gamma * entropy).mean(axes)
        overlap, total = (probability * target).sum(axes), (probability + target).sum(axes)
        return self.focal_weight * focal + 1 - (2 * overlap + 1) / (total + 1)

    def _check(self, logits: Tensor, iou: Tensor, target: Tensor) -> None:
        if iou.shape != logits.shape[:3]:
            raise ValueError(f"iou: expected shape {tuple(logits.shape[:3])}, but got {tuple(iou.shape)}.")
        masks, levels = logits.shape[2], target.shape[2]
        if target.ndim != logits.ndim or target.shape[:2] + target.shape[3:] != logits.shape[:2] + logits.shape[3:]:
            raise ValueError(
                f"target: expected the shape {tuple(logits.shape)} but for axis 2, got {tuple(target.shape)}."
            )
        if self.assignment == "order" and masks != levels:
            raise ValueError(
                f'target: expected one for each of {masks} masks, but got {levels}; use assignment "minimum".'
            )
