"""Loss of sub-class exploration: classify image-level classes and their appearance clusters."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SubclassLoss", "subclass_target"]


def subclass_target(subclass: Tensor, num_subclasses: int) -> Tensor:
    """Target vector of the sub-class head.

    Args:
        subclass: (..., K) integers, the cluster of each class in 0 to S - 1, or -1 where the class is absent.
        num_subclasses: S, clusters a class.

    Returns:
        float32 (..., 1 + K * S): entry 0 is "no class here", entry 1 + k * S + s is cluster s of class k.

    Raises:
        ValueError: when a cluster is outside -1 to S - 1.
    """
    if subclass.numel() and not -1 <= int(subclass.min()) <= int(subclass.max()) < num_subclasses:
        raise ValueError(
            f"subclass: expected clusters in 0 to {num_subclasses - 1}, or -1 for an absent class, "
            f"but got {int(subclass.min())} to {int(subclass.max())}."
        )
    clusters = F.one_hot(subclass.long() + 1, num_subclasses + 1)[..., 1:].flatten(-2)  # the column of -1 is dropped
    return torch.cat([(subclass < 0).all(-1, keepdim=True), clusters], dim=-1).float()


class SubclassLoss(nn.Module):
    """BCE of the classes plus weighted BCE of the sub-classes (Wang et al., WeakMedSAM, IEEE TMI 2025).

    The class target follows from the sub-class target: a class is present where one of its clusters is.

    Args:
        num_classes: K.
        num_subclasses: S, clusters a class.
        weight: of the sub-class term; 0 leaves the plain classification loss.

    Raises:
        ValueError: when the weight is negative.
    """

    def __init__(self, num_classes: int, num_subclasses: int, weight: float = 0.5) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight: expected at least 0, but got {weight}.")
        self.num_classes = num_classes
        self.num_subclasses = num_subclasses
        self.weight = weight

    def forward(self, input: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            input: class logits (B, K) and sub-class logits (B, 1 + K * S) of a `WeakMedSAMNet`.
            target: (B, 1 + K * S) from `subclass_target`.

        Returns:
            scalar.

        Raises:
            ValueError: when the shapes do not fit.
        """
        class_logits, subclass_logits = input
        expected = (len(class_logits), 1 + self.num_classes * self.num_subclasses)
        if tuple(class_logits.shape[1:]) != (self.num_classes,):
            raise ValueError(
                f"input: expected class logits (B, {self.num_classes}), but got {tuple(class_logits.shape)}."
            )
        for name, value in (("input", subclass_logits), ("target", target)):
            if tuple(value.shape) != expected:
                raise ValueError(f"{name}: expected sub-classes of shape {expected}, but got {tuple(value.shape)}.")
        target = target.to(class_logits.dtype)
        classes = target[:, 1:].unflatten(1, (self.num_classes, self.num_subclasses)).amax(-1)
        class_loss = F.binary_cross_entropy_with_logits(class_logits, classes)
        return class_loss + self.weight * F.binary_cross_entropy_with_logits(subclass_logits, target)
