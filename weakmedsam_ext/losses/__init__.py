"""Losses of weakly and semi-supervised training."""

from .subclass_loss import SubclassLoss, subclass_target

__all__ = ["SubclassLoss", "subclass_target"]
