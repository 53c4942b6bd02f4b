"""Smooth random fields and linear operators along the axes of images, batched and on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["along_axes", "smooth_noise", "uniform"]

# mean over all phases of the sum of squared cubic B-spline weights: variance of interpolated white noise on one axis
SPLINE_VARIANCE = 151 / 315


def uniform(low: float, high: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform float32 numbers in low..high on the generator's device."""
    return low + (high - low) * torch.rand(tuple(shape), generator=generator, device=generator.device)


def smooth_noise(channels: int, size: Sequence[int], scale: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of a typical wavelength, of mean 0 and variance 1.

    Independent normal numbers on a grid of that spacing, interpolated by cubic B-splines. Unlike gradient (Perlin)
    noise it has no zeros on the grid, and every item can have a spacing of its own.

    Args:
        channels: C, independent fields an item.
        size: *spatial.
        scale: (B,), distance of the grid's nodes in pixels, at least 1.
        generator: on the device of the result.

    Returns:
        float32 (B, C, *spatial).
    """
    batch, nodes = len(scale), [int(length / float(scale.min())) + 5 for length in size]
    field = torch.randn((batch, channels, *nodes), generator=generator, device=generator.device)
    operators = []
    for length, count in zip(size, nodes, strict=True):
        start = torch.rand((batch, 1), generator=generator, device=generator.device) + 1
        position = start + torch.arange(length, device=generator.device) / scale[:, None]
        operators.append(_spline(position.unsqueeze(2) - torch.arange(count, device=generator.device)))
    return along_axes(field, operators) / SPLINE_VARIANCE ** (len(size) / 2)


def along_axes(field: Tensor, operators: Sequence[Tensor | None]) -> Tensor:
    """Apply a matrix to every spatial axis.

    Args:
        field: (B, C, *spatial).
        operators: one (B, new length, length) for each axis, None to leave the axis alone.

    Returns:
        (B, C, *new spatial).
    """
    for axis, operator in enumerate(operators, 2):
        if operator is not None:
            moved = field.movedim(axis, -1)
            result = moved.flatten(1, -2) @ operator.mT
            field = result.unflatten(1, moved.shape[1:-1]).movedim(-1, axis)
    return field


def _spline(distance: Tensor) -> Tensor:
    """Cubic B-spline at distances in nodes."""
    near = distance.abs()
    inner = 2 / 3 - near.square() + near**3 / 2
    outer = (2 - near).clamp(min=0) ** 3 / 6
    return torch.where(near < 1, inner, outer)
