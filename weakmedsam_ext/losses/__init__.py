"""Losses of weakly and semi-supervised training."""

from .clicked_regions import clicked_regions, region_numbers
from .prompt_loss import ASSIGNMENTS, PromptLoss, mask_iou
from .subclass_loss import SubclassLoss, subclass_target

__all__ = [
    "ASSIGNMENTS",
    "PromptLoss",
    "SubclassLoss",
    "clicked_regions",
    "mask_iou",
    "region_numbers",
    "subclass_target",
]
