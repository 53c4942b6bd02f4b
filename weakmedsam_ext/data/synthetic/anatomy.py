"""Scenes with what anatomy has: a body in air, organs with walls, chambers and lesions, touching organs, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .noise import smooth_noise, uniform
from .scene import AIR, Scene, random_means
from .shapes import Ellipsoids, capsule, random_rotations, random_view

__all__ = ["anatomy"]

PARTS, CHAMBERS = 5, 4  # of an organ: four chambers, of which most organs have one, and a wall
WALL = PARTS - 1
CHAMBERED = 5  # only the largest organs are
LESIONS, TREES, BRANCHES = 6, 2, 9
ROUGH_FIELDS = 4  # independent noises for the surfaces


class _Body(NamedTuple):
    """Labels while a scene is painted, integers (B, *spatial): organ 0 is the body itself, -1 air."""

    organ: Tensor
    part: Tensor


def anatomy(batch: int, size: Sequence[int], generator: torch.Generator, num_organs: int = 10) -> Scene:
    """Paint scenes.

    Organs are superellipsoids with noise on their surfaces, painted from large to small. Some have a wall, some of the
    large ones chambers that touch where the wall between them is thin, some lesions; a third of them form a group with
    the one painted before, of nearly the same intensity. Vessels are trees of capsules, on top of everything; in half
    of the scenes an organ includes the vessels in it.

    Args:
        batch: B.
        size: *spatial.
        generator: on the device of the result.
        num_organs: in each scene, of which some lie outside the view or under others.

    Returns:
        the scenes.
    """
    view = random_view(batch, size, generator)
    scales = max(size) * uniform(0.06, 0.3, (batch,), generator)
    rough = smooth_noise(ROUGH_FIELDS, size, scales, generator)
    bodies = _organs(batch, num_organs, len(size), generator)
    body, chambered = _paint_organs(bodies, view, rough, generator)
    lesion, owner = _paint_lesions(bodies, body, view, rough, generator)
    vessel = _paint_vessels(view, generator).where(body.organ >= 0, 0)
    return _compose(body, chambered, lesion, owner, vessel, num_organs + 1, generator)


def _organs(batch: int, count: int, dims: int, generator: torch.Generator) -> Ellipsoids:
    """The body, number 0, and organs in it, from large to small."""
    extent = uniform(0.6, 1.0, (batch, 1, dims), generator)
    mean = torch.exp(uniform(-2.5, -0.7, (batch, count, 1), generator)).sort(dim=1, descending=True).values
    radius = mean * torch.exp(uniform(-0.5, 0.5, (batch, count, dims), generator))
    centre = 0.85 * extent * uniform(-1, 1, (batch, count, dims), generator)
    eye = torch.eye(dims, device=generator.device).expand(batch, 1, dims, dims)
    return Ellipsoids(
        torch.cat([torch.zeros_like(extent), centre], 1),
        torch.cat([extent, radius], 1),
        torch.cat([eye, random_rotations((batch, count), dims, generator)], 1),
        uniform(1.6, 3.5, (batch, count + 1), generator),
    )


def _paint_organs(bodies: Ellipsoids, view: Tensor, rough: Tensor, generator: torch.Generator) -> tuple[_Body, Tensor]:
    """Organs and their parts, and which organs have chambers, bool (B, K)."""
    batch, count, dims = bodies.centre.shape
    ones = (1,) * dims
    organ = torch.full_like(view[:, 0], -1, dtype=torch.long)
    part = torch.zeros_like(organ)
    amplitude = uniform(0.0, 0.25, (batch, count, *ones), generator)
    amplitude[:, 0] *= 0.3
    thickness = uniform(0.01, 0.07, (batch, count, *ones), generator)
    thickness = thickness.where(uniform(0, 1, thickness.shape, generator) < 0.4, -1.0)
    chambered = uniform(0, 1, (batch, count), generator) < 0.5
    chambered[:, 0] = False
    chambered[:, CHAMBERED:] = False
    whole = uniform(0, 1, (batch, *ones), generator) < 0.35  # the view lies within the body
    for number in range(count):
        noise = rough[:, number % ROUGH_FIELDS]
        local = bodies.local(number, view)
        field = bodies.field(number, local) + amplitude[:, number] * noise
        inside = (field < 0) | whole if number == 0 else (field < 0) & (organ >= 0)
        scale = bodies.radius[:, number].mean(1).view(-1, *ones)
        piece = torch.zeros_like(organ)
        if 0 < number < CHAMBERED:
            chamber = _chambers(local, rough[:, (number + 1) % ROUGH_FIELDS], generator)
            piece = chamber.where(chambered[:, number].view(-1, *ones), 0)
        piece = torch.where((field * scale > -thickness[:, number]) & (field < 0), WALL, piece)
        organ = torch.where(inside, number, organ)
        part = torch.where(inside, piece, part)
    return _Body(organ, part), chambered


def _chambers(local: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Nearest of some points in the unit ball (B, *spatial), or the wall between them, which has holes."""
    batch, dims = local.shape[:2]
    points = uniform(-0.7, 0.7, (batch, CHAMBERS, dims), generator)
    unused = torch.arange(CHAMBERS, device=local.device) > uniform(1, CHAMBERS, (batch, 1), generator)
    points = torch.where(unused.unsqueeze(2), 9.0, points)
    distance = torch.cdist(points, local.flatten(2).mT).unflatten(2, local.shape[2:])
    nearest = distance.topk(2, dim=1, largest=False)
    wall = uniform(-0.1, 0.15, (batch, *(1,) * dims), generator) + 0.06 * noise
    return torch.where(nearest.values[:, 1] - nearest.values[:, 0] < wall, WALL, nearest.indices[:, 0])


def _paint_lesions(
    bodies: Ellipsoids, body: _Body, view: Tensor, rough: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Number of the lesion, 0 for none, (B, *spatial), and the organs that they are in, (B, LESIONS)."""
    batch, count, dims = bodies.centre.shape
    owner = torch.randint(count, (batch, LESIONS), generator=generator, device=generator.device)
    index = owner.unsqueeze(2).expand(-1, -1, dims)
    radius = bodies.radius.gather(1, index)
    spread = uniform(-0.6, 0.6, radius.shape, generator) * radius
    lesions = Ellipsoids(
        bodies.centre.gather(1, index) + spread,
        radius.mean(2, keepdim=True).clamp(max=0.35) * uniform(0.15, 0.6, radius.shape, generator),
        random_rotations((batch, LESIONS), dims, generator),
        uniform(1.8, 2.5, owner.shape, generator),
    )
    result = torch.zeros_like(body.organ)
    amplitude = uniform(0.0, 0.4, (batch, LESIONS, *(1,) * dims), generator)
    for number in range(LESIONS):
        field = lesions.field(number, lesions.local(number, view)) + amplitude[:, number] * rough[:, number % 4]
        host = body.organ == owner[:, number].view(-1, *(1,) * dims)
        result = torch.where((field < 0) & host, number + 1, result)
    return result, owner


def _paint_vessels(view: Tensor, generator: torch.Generator) -> Tensor:
    """Number of the tree, 0 for none, (B, *spatial)."""
    batch, dims = view.shape[:2]
    result = torch.zeros_like(view[:, 0], dtype=torch.long)
    for tree in range(TREES):
        nodes = uniform(-0.7, 0.7, (batch, 1, dims), generator)
        headings = torch.randn((batch, 1, dims), generator=generator, device=view.device)
        radii = torch.exp(uniform(-4.2, -2.6, (batch, 1), generator))
        radii = radii.where(uniform(0, 1, radii.shape, generator) < 0.6, -1.0)  # no tree
        for _ in range(BRANCHES):
            # mostly the branch before goes on
            parent = (nodes.shape[1] - 1 - uniform(0, 1, (batch, 1), generator).pow(4) * nodes.shape[1]).long().clamp(0)
            start, heading = (x.gather(1, parent.unsqueeze(2).expand(-1, -1, dims)) for x in (nodes, headings))
            heading = heading / heading.norm(dim=2, keepdim=True).clamp(min=1e-6)
            heading = heading + 0.5 * torch.randn(heading.shape, generator=generator, device=view.device)
            end = start + uniform(0.1, 0.3, (batch, 1, 1), generator) * heading
            radius = radii.gather(1, parent) * uniform(0.75, 1.05, (batch, 1), generator)
            field = capsule(view, start[:, 0], end[:, 0], radius[:, 0])
            result = torch.where(field < 0, tree + 1, result)
            nodes, headings = torch.cat([nodes, end], 1), torch.cat([headings, heading], 1)
            radii = torch.cat([radii, radius], 1)
    return result


def _compose(
    body: _Body,
    chambered: Tensor,
    lesion: Tensor,
    owner: Tensor,
    vessel: Tensor,
    count: int,
    generator: torch.Generator,
) -> Scene:
    """Labels: 0 air, then the parts of every organ, lesions and vessels."""
    batch, ones = len(owner), (1,) * (lesion.ndim - 1)
    first_lesion, first_vessel = 1 + count * PARTS, 1 + count * PARTS + LESIONS
    organ = body.organ.clamp(min=0)
    own = 1 + organ * PARTS + body.part
    fine = torch.where(lesion > 0, first_lesion + lesion - 1, own)
    has_chambers = chambered.gather(1, organ.flatten(1)).view_as(organ)
    # the wall of the body and the chambers of an organ are no part of a larger thing yet
    middle = torch.where(has_chambers | ((organ == 0) & (body.part == WALL)), own, 1 + organ * PARTS)
    joins = uniform(0, 1, (batch, count), generator) < 0.3
    joins[:, :2] = False
    groups = torch.arange(count, device=organ.device) - joins.long()
    coarse = torch.where(organ == 0, middle, 1 + PARTS * groups.gather(1, organ.flatten(1)).view_as(organ))
    fine = torch.where(vessel > 0, first_vessel + vessel - 1, fine)
    outside = (vessel > 0) & ((uniform(0, 1, (batch, *ones), generator) < 0.5) | (organ == 0))
    middle, coarse = (torch.where(outside, fine, x).where(body.organ >= 0, -1) for x in (middle, coarse))
    mean = _means(chambered, joins, owner, count, generator)
    return Scene(fine.where(body.organ >= 0, AIR), middle, coarse, mean)


def _means(chambered: Tensor, joins: Tensor, owner: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Intensities (B, labels) of what `_compose` numbers."""
    batch = len(owner)
    organ = random_means(batch, count, generator)
    for number in range(1, count):
        near = organ[:, number - 1] + uniform(-20, 20, (batch,), generator)
        organ[:, number] = torch.where(joins[:, number], near, organ[:, number])
    parts = organ.unsqueeze(2).repeat(1, 1, PARTS)
    alike = uniform(0, 1, (batch, count, 1), generator) < 0.7
    change = uniform(-1, 1, (batch, count, CHAMBERS), generator)
    parts[..., :CHAMBERS] += torch.where(chambered.unsqueeze(2), change * torch.where(alike, 10, 60), 0)
    parts[..., WALL] += _away(20, 90, (batch, count), generator)
    lesion = organ.gather(1, owner) + _away(12, 90, owner.shape, generator)
    vessel = uniform(25, 225, (batch, TREES), generator)
    air = uniform(0, 15, (batch, 1), generator)
    return torch.cat([air, parts.flatten(1), lesion, vessel], dim=1).clamp(0, 255)


def _away(low: float, high: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Differences of low..high, up or down."""
    sign = torch.randint(2, tuple(shape), generator=generator, device=generator.device) * 2 - 1
    return sign * uniform(low, high, shape, generator)
