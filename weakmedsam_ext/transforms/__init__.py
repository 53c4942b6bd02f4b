"""Transforms in MONAI's manner: an array version and a dictionary version (`...d`) of each."""

from .affinity_refine import AffinityRefine, AffinityRefineD, AffinityRefined, AffinityRefineDict
from .click_simulation import CLICK_RULES, simulate_clicks
from .image_level_label import ImageLevelLabel, ImageLevelLabelD, ImageLevelLabeld, ImageLevelLabelDict
from .mask_regions import MaskRegions, MaskRegionsD, MaskRegionsd, MaskRegionsDict
from .slice_wise import SliceWise, SliceWiseD, SliceWised, SliceWiseDict

__all__ = [
    "CLICK_RULES",
    "AffinityRefine",
    "AffinityRefineD",
    "AffinityRefineDict",
    "AffinityRefined",
    "ImageLevelLabel",
    "ImageLevelLabelD",
    "ImageLevelLabelDict",
    "ImageLevelLabeld",
    "MaskRegions",
    "MaskRegionsD",
    "MaskRegionsDict",
    "MaskRegionsd",
    "SliceWise",
    "SliceWiseD",
    "SliceWiseDict",
    "SliceWised",
    "simulate_clicks",
]
