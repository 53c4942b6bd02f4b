"""Synthetic images with regions to click: training data without data."""

from .batches import GENERATOR_VERSION, SyntheticBatches, synthetic_batch
from .components import connected_components, drop_small
from .noise import smooth_noise
from .scene import Scene, region_scales

__all__ = [
    "GENERATOR_VERSION",
    "Scene",
    "SyntheticBatches",
    "connected_components",
    "drop_small",
    "region_scales",
    "smooth_noise",
    "synthetic_batch",
]
