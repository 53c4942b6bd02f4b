"""Dice and cross-entropy over some of the voxels."""

from __future__ import annotations

from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MaskedDiceCELoss"]


class MaskedDiceCELoss(nn.Module):
    """Sum of Dice loss and cross-entropy over the voxels of a mask, as copy-paste wants for each of its two sources.

    Dice is that of the foreground classes over the whole batch, with the probabilities and labels outside of the mask
    set to 0; cross-entropy is the mean over the voxels of the mask. MONAI's `MaskedDiceLoss` masks logits before their
    softmax, which makes every masked voxel half foreground.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, batch=True)

    def forward(self, logits: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: (B, K + 1, *spatial), background first.
            label: class numbers, (B, 1, *spatial).
            mask: 1 where a voxel counts, 0 elsewhere, of a shape that broadcasts to that of `label`.

        Returns:
            scalar.
        """
        mask = mask.to(logits).expand(label.shape)
        probability, target = logits.float().softmax(1), one_hot(label, logits.shape[1])
        entropy = F.cross_entropy(logits.float(), label.squeeze(1).long(), reduction="none")
        return self.dice(probability * mask, target * mask) + (entropy * mask[:, 0]).sum() / mask.sum().clamp(min=1)
