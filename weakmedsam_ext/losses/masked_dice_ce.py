"""Dice and cross-entropy over some of the voxels."""

from __future__ import annotations

from monai.losses import DiceLoss
from monai.networks import one_hot
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["IGNORED", "MaskedDiceCELoss"]

IGNORED = 255  # in a mask: nobody knows what is there


class MaskedDiceCELoss(nn.Module):
    """Sum of Dice loss and cross-entropy over the voxels of a mask, as copy-paste wants for each of its two sources.

    Voxels labelled `IGNORED` (255) count nowhere. Dice is that of the foreground classes, with the probabilities and
    labels of what does not count set to 0; cross-entropy is the mean over what counts. Where all does, this is
    MONAI's `DiceCELoss`. MONAI's `MaskedDiceLoss` masks logits before their softmax, which makes every masked voxel
    half foreground.

    Args:
        batch: take Dice over the whole batch and not of every item.
    """

    def __init__(self, batch: bool = True) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, batch=batch)

    def forward(self, logits: Tensor, label: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: (B, K + 1, *spatial), background first.
            label: class numbers or `IGNORED`, (B, 1, *spatial).
            mask: 1 where a voxel counts, 0 elsewhere, of a shape that broadcasts to that of `label`; all count without.

        Returns:
            scalar.
        """
        known = (label != IGNORED).to(logits)
        mask = known if mask is None else known * mask.to(logits)
        label = label * known.to(label)
        probability, target = logits.float().softmax(1), one_hot(label, logits.shape[1])
        entropy = F.cross_entropy(logits.float(), label.squeeze(1).long(), reduction="none")
        return self.dice(probability * mask, target * mask) + (entropy * mask[:, 0]).sum() / mask.sum().clamp(min=1)
