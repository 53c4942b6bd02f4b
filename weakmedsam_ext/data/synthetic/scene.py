"""What a synthetic image shows: labels, how they form regions, and how bright each label is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .components import connected_components, drop_small
from .noise import uniform

__all__ = ["AIR", "Scene", "random_means", "region_scales"]

AIR = 0  # label that is dark and never clicked


class Scene(NamedTuple):
    """A batch of label maps, all integers (B, *spatial).

    Attributes:
        fine: label of every pixel, 0 air; it decides about the intensity.
        middle: of what a click may mean too, for example an organ with its lesions; negative where nothing.
        coarse: likewise, for example an organ with its neighbour.
        mean: intensity of each of N labels, (B, N), in 0..255.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    mean: Tensor


def region_scales(scene: Scene, min_size: int) -> Tensor:
    """Connected regions at three scales, as promptable training wants them.

    Args:
        scene: the labels.
        min_size: smaller regions are never clicked, in pixels.

    Returns:
        int32 (B, 3, *spatial), negative in the air and in small regions.
    """
    fine = torch.where(scene.fine == AIR, -1, scene.fine)
    scales = torch.stack([fine, scene.middle.where(fine >= 0, -1), scene.coarse.where(fine >= 0, -1)], dim=1)
    regions = drop_small(connected_components(scales.flatten(0, 1)), min_size)
    return regions.view(scales.shape).int()


def random_means(batch: int, labels: int, generator: torch.Generator) -> Tensor:
    """Intensities (B, labels), U(25, 225), in some items drawn together to one of them as in soft tissue."""
    mean = uniform(25, 225, (batch, labels), generator)
    contrast = uniform(0.15, 1.0, (batch, 1), generator)
    contrast = torch.where(uniform(0, 1, (batch, 1), generator) < 0.5, contrast, 1.0)
    return mean[:, :1] + contrast * (mean - mean[:, :1])
