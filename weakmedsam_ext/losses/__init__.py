"""Losses of weakly and semi-supervised training."""

from .prompt_loss import ASSIGNMENTS, PromptLoss, mask_iou
from .region_click_loss import RegionClickLoss, clicked_regions, region_numbers
from .subclass_loss import SubclassLoss, subclass_target

__all__ = [
    "ASSIGNMENTS",
    "PromptLoss",
    "RegionClickLoss",
    "SubclassLoss",
    "clicked_regions",
    "mask_iou",
    "region_numbers",
    "subclass_target",
]
