"""Shapes as fields that are negative inside, batched and on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .noise import smooth_noise, uniform

__all__ = ["Ellipsoids", "capsule", "random_rotations", "random_view"]


def random_rotations(shape: Sequence[int], dims: int, generator: torch.Generator) -> Tensor:
    """Random rotations (*shape, dims, dims), each as likely as any other."""
    if dims == 2:
        angle = uniform(0, 2 * math.pi, shape, generator)
        cosine, sine = angle.cos(), angle.sin()
        return torch.stack([cosine, -sine, sine, cosine], dim=-1).unflatten(-1, (2, 2))
    # unit quaternions: a decomposition of many small matrices takes long on a GPU
    normal = torch.randn((*shape, 4), generator=generator, device=generator.device)
    w, x, y, z = (normal / normal.norm(dim=-1, keepdim=True).clamp(min=1e-6)).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def random_view(batch: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Coordinates of pixels in scenes that fill about -1..1: a random part, turned and bent.

    Args:
        batch: B.
        size: *spatial.
        generator: on the device of the result.

    Returns:
        (B, dims, *spatial).
    """
    dims, device = len(size), generator.device
    axes = [(torch.arange(length, device=device) + 0.5 - length / 2) * (2 / max(size)) for length in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    zoom = torch.exp(uniform(-0.9, 0.15, (batch, 1, 1), generator))
    turned = torch.einsum("bij,j...->bi...", zoom * random_rotations((batch,), dims, generator), grid)
    offset = uniform(-0.5, 0.5, (batch, dims), generator) * (1.2 - zoom[:, 0]).clamp(min=0.1)
    bend = smooth_noise(dims, size, max(size) * uniform(0.15, 0.5, (batch,), generator), generator)
    strength = zoom[:, 0] * uniform(0.0, 0.1, (batch, 1), generator)
    return turned + _like(offset, turned) + _like(strength, bend) * bend


class Ellipsoids(NamedTuple):
    """Parameters of K superellipsoids in each of B scenes, bodies with sum_i |x_i / radius_i|^power < 1 when unturned.

    Attributes:
        centre: (B, K, dims).
        radius: (B, K, dims).
        rotation: (B, K, dims, dims).
        power: (B, K), 2 for ellipsoids, larger for boxes.
    """

    centre: Tensor
    radius: Tensor
    rotation: Tensor
    power: Tensor

    def local(self, number: int, view: Tensor) -> Tensor:
        """Coordinates (B, dims, *spatial) in which body `number` is the unit ball, from those of the scene."""
        moved = view - _like(self.centre[:, number], view)
        matrix = self.rotation[:, number] / self.radius[:, number].unsqueeze(2)
        return torch.einsum("bij,bj...->bi...", matrix, moved)

    def field(self, number: int, local: Tensor) -> Tensor:
        """Distance (B, *spatial) from the surface in radii, negative inside."""
        power = _like(self.power[:, number], local[:, 0])
        return (local.abs() + 1e-6).pow(power.unsqueeze(1)).sum(1).pow(1 / power) - 1


def capsule(view: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> Tensor:
    """Distance (B, *spatial) from the surface of tubes from (B, dims) to (B, dims) of radius (B,), negative inside."""
    moved, axis = view - _like(start, view), _like(end - start, view)
    along = ((moved * axis).sum(1, keepdim=True) / axis.square().sum(1, keepdim=True).clamp(min=1e-6)).clamp(0, 1)
    return (moved - along * axis).square().sum(1).sqrt() - _like(radius, view[:, 0])


def _like(values: Tensor, field: Tensor) -> Tensor:
    """Values (B, ...) with as many axes as the field, to broadcast over its space."""
    return values.reshape(*values.shape, *(1,) * (field.ndim - values.ndim))
