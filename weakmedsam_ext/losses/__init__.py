"""Losses of weakly and semi-supervised training."""

from .consistency import ConsistencyLoss, GeneralistLoss, UncertaintyConsistencyLoss, predictive_entropy
from .masked_dice_ce import IGNORED, MaskedDiceCELoss
from .prompt_loss import ASSIGNMENTS, PromptLoss, mask_iou
from .region_affinity import RegionAffinityLoss
from .regions_of_clicks import clicked_regions, region_numbers
from .subclass_loss import SubclassLoss, subclass_target

__all__ = [
    "ASSIGNMENTS",
    "IGNORED",
    "ConsistencyLoss",
    "GeneralistLoss",
    "MaskedDiceCELoss",
    "PromptLoss",
    "RegionAffinityLoss",
    "SubclassLoss",
    "UncertaintyConsistencyLoss",
    "clicked_regions",
    "mask_iou",
    "predictive_entropy",
    "region_numbers",
    "subclass_target",
]
