"""Synthetic heart-like volumes: a target, a look-alike that co-occurs with it, and distractors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from monai.utils import look_up_option

from .drawing import Coordinates, acquire_mri, check_size, patient_coordinates, smooth_noise

__all__ = ["SUBTYPES", "HeartPhantom", "deal_subtypes", "heart_phantom"]


class _Look(NamedTuple):
    """Appearance of a target: brightness inside and of its wall, texture strength, half width and half height."""

    inside: float
    wall: float
    texture: float
    width: float
    height: float


SUBTYPES = {
    "round": _Look(0.62, 0.62, 0.0, 0.27, 0.24),
    "walled": _Look(0.50, 0.85, 0.0, 0.33, 0.21),
    "dark": _Look(0.14, 0.20, 0.0, 0.36, 0.19),
    "mottled": _Look(0.60, 0.60, 0.2, 0.30, 0.26),
}


class HeartPhantom(NamedTuple):
    """A phantom volume with its masks and labels; arrays are (X, Y, Z)."""

    image: np.ndarray
    target: np.ndarray
    look_alike: np.ndarray
    subtype: str


def heart_phantom(
    generator: np.random.Generator, size: Sequence[int] = (88, 80, 28), subtype: str | None = None
) -> HeartPhantom:
    """Draw a heart-like volume.

    The target ("left atrium") is an irregular blob with lobes that differs in place, extent and look, and is seen on
    about half of the slices. The look-alike is a small round vessel, brighter than anything else and always the same.
    It begins and ends within a slice of the target, so that it tells nearly as well as the target whether a slice is
    positive, and is easier to spot: a plain class-activation map falls for it. Body, lungs, heart muscle, a second
    chamber, a vein and the spine are on all slices. A bias field and Rician noise are added.

    Args:
        generator: source of randomness; the same state gives the same volume.
        size: voxels along each axis.
        subtype: how the target looks, one of `SUBTYPES`; drawn without.

    Returns:
        the phantom; its image is int16 of about 0..1000, its masks are uint8.

    Raises:
        ValueError: when the size is too small to hold the structures, or the sub-type is unknown.
    """
    check_size(size)
    subtype = look_up_option(subtype or str(generator.choice(list(SUBTYPES))), list(SUBTYPES))
    grid = patient_coordinates(generator, size)

    look = SUBTYPES[subtype]
    level = _atrium_level(grid, look, generator)
    vessel = grid.ellipse((0.32, -0.42) + generator.uniform(-0.04, 0.04, 2), (0.11, 0.11))
    # the gap keeps the two apart, so that a mask of one never counts for the other
    target = (level < 1) & (vessel > 4)
    look_alike = (vessel < 1) & _nearly_same_slices(target, generator)

    texture = look.texture * smooth_noise(generator, grid.x.shape, (1.2, 1.2, 0.6))
    image = np.where(target, np.where(level > 0.7, look.wall, look.inside) + texture, _anatomy(grid, generator))
    image = np.where(look_alike, 0.95, image)
    return HeartPhantom(acquire_mri(image, generator), target.astype(np.uint8), look_alike.astype(np.uint8), subtype)


def deal_subtypes(generator: np.random.Generator) -> Iterator[str]:
    """Endless sub-types in shuffled rounds: few cases show all of them, and more cases do not change the first ones."""
    while True:
        yield from map(str, generator.permutation(list(SUBTYPES)))


def _atrium_level(grid: Coordinates, look: _Look, generator: np.random.Generator) -> np.ndarray:
    """Level of the target's surface: below 1 inside, largest at the wall."""
    centre = np.array((0.04, 0.12)) + generator.uniform(-0.07, 0.07, 2)
    radii = np.array((look.width, look.height)) * generator.uniform(0.85, 1.15, 2)
    middle, reach = generator.uniform(-0.2, 0.2), generator.uniform(0.42, 0.62)
    # the fourth power gives blunt ends: few slices on which only a speck of the target is left
    level = grid.ellipse(centre, radii) + ((grid.z - middle) / reach) ** 4
    for side, back in ((-1, 1), (1, 1), (1, -1)):  # two veins at the back, an appendage in front
        lobe = centre + radii * (0.95 * side, 0.5 * back) + generator.uniform(-0.03, 0.03, 2)
        height = middle + reach * generator.uniform(-0.2, 0.5)
        branch = grid.ellipse(lobe, radii * generator.uniform(0.3, 0.5, 2)) + ((grid.z - height) / (0.5 * reach)) ** 2
        level = np.minimum(level, branch)
    outline = smooth_noise(generator, grid.x.shape, np.multiply(grid.x.shape, (0.08, 0.08, 0.1)))
    return level + 0.15 * outline


def _nearly_same_slices(target: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Slices from the target's first to its last, each end moved by at most one; broadcasts over a volume."""
    seen = np.flatnonzero(target.any(axis=(0, 1)))
    start, end = (seen[0], seen[-1]) + generator.integers(-1, 2, 2)
    index = np.arange(target.shape[2])
    return (index >= start) & (index <= end)


def _anatomy(grid: Coordinates, generator: np.random.Generator) -> np.ndarray:
    """Background anatomy of all slices."""
    organs = (  # centre, radii, brightness; later ones cover earlier ones
        ((0.0, 0.0), (0.95, 0.90), 0.62),  # fat
        ((0.0, 0.0), (0.88, 0.82), 0.32),  # chest wall
        ((-0.54, -0.02), (0.30, 0.58), 0.07),  # lungs
        ((0.60, -0.02), (0.26, 0.55), 0.07),
        ((0.05, -0.12), (0.56, 0.60), 0.36),  # heart muscle
        ((-0.14, -0.38), (0.24, 0.20), 0.54),  # second chamber
        ((-0.36, -0.08), (0.08, 0.08), 0.72),  # vein
        ((0.02, 0.66), (0.17, 0.14), 0.48),  # spine and its canal
        ((0.02, 0.74), (0.06, 0.05), 0.15),
    )
    image = np.zeros(grid.x.shape)
    for centre, radii, brightness in organs:
        moved = np.asarray(centre) + generator.uniform(-0.02, 0.02, 2)
        image[grid.ellipse(moved, radii) < 1] = brightness + generator.uniform(-0.03, 0.03)
    return image
