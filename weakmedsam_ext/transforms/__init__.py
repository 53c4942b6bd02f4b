"""Transforms in MONAI's manner: an array version and a dictionary version (`...d`) of each."""

from .affinity_refine import AffinityRefine, AffinityRefineD, AffinityRefined, AffinityRefineDict
from .anti_alias import AntiAlias, AntiAliasD, AntiAliasd, AntiAliasDict
from .class_numbers import ClassNumbers, ClassNumbersD, ClassNumbersd, ClassNumbersDict
from .click_simulation import CLICK_RULES, simulate_clicks
from .crop_around_clicks import CropAroundClicks, CropAroundClicksD, CropAroundClicksd, CropAroundClicksDict
from .draw_clicks import DrawClicks, DrawClicksD, DrawClicksd, DrawClicksDict
from .generalist_normalization import GENERALIST_NORMALIZATIONS, generalist_input, normalize_above_zero
from .image_level_label import ImageLevelLabel, ImageLevelLabelD, ImageLevelLabeld, ImageLevelLabelDict
from .labelled_slices import LabelledSlices, LabelledSlicesD, LabelledSlicesd, LabelledSlicesDict
from .mask_regions import MaskRegions, MaskRegionsD, MaskRegionsd, MaskRegionsDict
from .resize_slices import ResizeSlices, ResizeSlicesD, ResizeSlicesd, ResizeSlicesDict
from .scale_volume_intensity import ScaleVolumeIntensity, ScaleVolumeIntensityd
from .seeded_random_walk import SeededRandomWalk, SeededRandomWalkD, SeededRandomWalkd, SeededRandomWalkDict
from .slice_wise import SliceWise, SliceWiseD, SliceWised, SliceWiseDict
from .spacing_beside_paths import SpacingBesidePathsD, SpacingBesidePathsd, SpacingBesidePathsDict
from .square_pad import SquarePad, SquarePadD, SquarePadd, SquarePadDict

__all__ = [
    "CLICK_RULES",
    "GENERALIST_NORMALIZATIONS",
    "AffinityRefine",
    "AffinityRefineD",
    "AffinityRefineDict",
    "AffinityRefined",
    "AntiAlias",
    "AntiAliasD",
    "AntiAliasDict",
    "AntiAliasd",
    "ClassNumbers",
    "ClassNumbersD",
    "ClassNumbersDict",
    "ClassNumbersd",
    "CropAroundClicks",
    "CropAroundClicksD",
    "CropAroundClicksDict",
    "CropAroundClicksd",
    "DrawClicks",
    "DrawClicksD",
    "DrawClicksDict",
    "DrawClicksd",
    "ImageLevelLabel",
    "ImageLevelLabelD",
    "ImageLevelLabelDict",
    "ImageLevelLabeld",
    "LabelledSlices",
    "LabelledSlicesD",
    "LabelledSlicesDict",
    "LabelledSlicesd",
    "MaskRegions",
    "MaskRegionsD",
    "MaskRegionsDict",
    "MaskRegionsd",
    "ResizeSlices",
    "ResizeSlicesD",
    "ResizeSlicesDict",
    "ResizeSlicesd",
    "ScaleVolumeIntensity",
    "ScaleVolumeIntensityd",
    "SeededRandomWalk",
    "SeededRandomWalkD",
    "SeededRandomWalkDict",
    "SeededRandomWalkd",
    "SliceWise",
    "SliceWiseD",
    "SliceWiseDict",
    "SliceWised",
    "SpacingBesidePathsD",
    "SpacingBesidePathsDict",
    "SpacingBesidePathsd",
    "SquarePad",
    "SquarePadD",
    "SquarePadDict",
    "SquarePadd",
    "generalist_input",
    "normalize_above_zero",
    "simulate_clicks",
]
