"""Losses of weakly and semi-supervised training."""

from .region_click_loss import RegionClickLoss, clicked_regions
from .subclass_loss import SubclassLoss, subclass_target

__all__ = ["RegionClickLoss", "SubclassLoss", "clicked_regions", "subclass_target"]
