"""Scenes without anatomy: jittered spheres, and what the largest of several noises cuts an image into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .noise import smooth_noise, uniform
from .scene import Scene, random_means
from .shapes import random_view

__all__ = ["jittered_spheres", "warped_noise"]

CHANNELS = 12
EXTENT = 2.4  # of the grid of spheres; the view is 2 wide


def jittered_spheres(batch: int, size: Sequence[int], generator: torch.Generator) -> Scene:
    """Star-like bodies on a jittered grid, a third of them missing, after AnyStar (Dey et al., WACV 2024).

    A body is where the distance to its centre, less noise of up to its radius, is below the radius. Half of the scenes
    have nuclei: the body is a ring then, and with its nucleus the next scale.

    Args:
        batch: B.
        size: *spatial.
        generator: on the device of the result.

    Returns:
        the scenes.
    """
    dims = len(size)
    view = random_view(batch, size, generator)
    side = int(torch.randint(2, 5, (), generator=generator, device=generator.device))
    step = EXTENT / side
    axis = (torch.arange(side, device=view.device) + 0.5) * step - EXTENT / 2
    nodes = torch.cartesian_prod(*[axis] * dims).view(-1, dims)
    centres = nodes + 0.3 * step * uniform(-1, 1, (batch, *nodes.shape), generator)
    radius = 0.45 * step * uniform(0.6, 1.2, centres.shape[:2], generator)
    radius = radius.where(uniform(0, 1, radius.shape, generator) > 1 / 3, -1.0)  # missing
    distance = torch.cdist(centres, view.flatten(2).mT)
    field, number = (distance / radius.abs().unsqueeze(2)).where(radius.unsqueeze(2) > 0, 99.0).min(1)
    noise = smooth_noise(1, size, max(size) * uniform(0.05, 0.25, (batch,), generator), generator)[:, 0]
    strength = uniform(0.05, 0.35, (batch, *(1,) * dims), generator)
    depth = field.view_as(noise) + strength * noise
    number = number.view_as(noise)
    nucleus = uniform(-0.4, 0.6, (batch, *(1,) * dims), generator)
    body = torch.where(depth < 1, number + 1, 0)
    count = len(nodes) + 1
    fine = 1 + torch.where((depth < nucleus), count, 0) * (body > 0) + body
    mean = random_means(batch, 2 * count + 1, generator)
    # many bodies of one kind look alike
    alike = uniform(0, 1, (batch, 1), generator) < 0.5
    kinds = torch.where(torch.arange(2 * count + 1, device=view.device) > count, 2, 1)
    kinds[1] = 0
    kinds = kinds.expand(batch, -1)
    shared = mean.gather(1, kinds) + uniform(-10, 10, mean.shape, generator)
    whole = torch.where(body > 0, body, -1)
    return Scene(fine, whole, whole, torch.where(alike, shared, mean))


def warped_noise(batch: int, size: Sequence[int], generator: torch.Generator) -> Scene:
    """The largest of several smooth noises at every pixel, after SynthMorph (Hoffmann et al., IEEE TMI 2022).

    Labels are merged by two and by four at the larger scales; in half of the scenes two that are merged look alike.

    Args:
        batch: B.
        size: *spatial.
        generator: on the device of the result.

    Returns:
        the scenes.
    """
    scale = max(size) * torch.exp(uniform(-2.2, -0.6, (batch,), generator))
    fine = _largest(smooth_noise(CHANNELS, size, scale, generator), scale, size, generator)
    mean = random_means(batch, CHANNELS + 1, generator)
    mates = mean.clone()
    mates[:, 2::2] = mean[:, 1::2] + uniform(-35, 35, mean[:, 1::2].shape, generator)
    mean = torch.where(uniform(0, 1, (batch, 1), generator) < 0.5, mates, mean)
    return Scene(fine + 1, fine // 2, fine // 4, mean.clamp(0, 255))


def _largest(noise: Tensor, scale: Tensor, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Channel of the largest noise, with finer noise on the borders."""
    detail = smooth_noise(1, size, (scale / 3).clamp(min=2), generator) * torch.linspace(
        -0.15, 0.15, noise.shape[1], device=noise.device
    ).view(1, -1, *(1,) * len(size))
    return (noise + detail).argmax(1)
