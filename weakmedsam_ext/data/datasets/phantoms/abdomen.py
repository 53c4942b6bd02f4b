"""Synthetic abdominal CT: liver, kidneys, spleen and pancreas among organs without a label."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from .drawing import Coordinates, Numbers, acquire_ct, check_size, label_tissues, patient_coordinates, smooth_noise

__all__ = ["AbdomenPhantom", "abdomen_phantom"]


class _Tissue(IntEnum):
    """What a voxel holds."""

    AIR = 0
    FAT = 1
    MUSCLE = 2
    LUNG = 3
    BONE = 4
    MARROW = 5
    BOWEL = 6
    STOMACH = 7
    VESSEL = 8
    LIVER = 9
    KIDNEY = 10
    SPLEEN = 11
    PANCREAS = 12


# Hounsfield units in the portal venous phase
DENSITY = {
    _Tissue.AIR: -1000,
    _Tissue.FAT: -100,
    _Tissue.MUSCLE: 50,
    _Tissue.LUNG: -820,
    _Tissue.BONE: 600,
    _Tissue.MARROW: 220,
    _Tissue.BOWEL: 35,
    _Tissue.STOMACH: 25,
    _Tissue.VESSEL: 155,
    _Tissue.LIVER: 105,
    _Tissue.KIDNEY: 180,
    _Tissue.SPLEEN: 125,
    _Tissue.PANCREAS: 90,
}
# as in AbdomenCT-1K
LABELS = {_Tissue.LIVER: 1, _Tissue.KIDNEY: 2, _Tissue.SPLEEN: 3, _Tissue.PANCREAS: 4}
# from the head of the pancreas, at the right, to its tail at the spleen
PANCREAS = ((-0.17, 0.02, -0.20), (-0.14, -0.06, -0.08), (0.00, -0.10, 0.02), (0.18, -0.02, 0.08), (0.38, 0.10, 0.16))


class AbdomenPhantom(NamedTuple):
    """A phantom's volumes (X, Y, Z): int16 Hounsfield units, and labels 1 liver, 2 kidney, 3 spleen, 4 pancreas."""

    image: np.ndarray
    target: np.ndarray


def abdomen_phantom(generator: np.random.Generator, size: Sequence[int] = (96, 72, 32)) -> AbdomenPhantom:
    """Draw an abdomen between the bases of the lungs and the pelvis.

    Organs lie as in people who lie on their backs: the liver at the right, the spleen at the left and back, kidneys
    beside the spine, the pancreas in front of the great vessels. They reach over different parts of the body's length,
    so that slices show different organs. Stomach, bowel and vessels are as dense as them, or nearly. Outlines, places
    and densities differ by patient.

    Args:
        generator: source of randomness; the same state gives the same volumes.
        size: voxels along each axis.

    Returns:
        the phantom.

    Raises:
        ValueError: when the size is too small to hold the structures.
    """
    check_size(size)
    grid = patient_coordinates(generator, size)
    tissue, cavity = _draw_body(grid, generator)
    _draw_organs(tissue, grid, cavity, generator)
    target = label_tissues(tissue, LABELS)
    density = np.array([float(DENSITY[kind]) for kind in _Tissue])
    density[_Tissue.FAT :] += generator.uniform(-10, 10, len(density) - _Tissue.FAT)
    return AbdomenPhantom(acquire_ct(density[tissue], generator), target)


def _draw_body(grid: Coordinates, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tissue of the body without the organs that have a label, and where its cavity is."""
    tissue = np.full(grid.x.shape, _Tissue.AIR, np.intp)
    fat = generator.uniform(0.03, 0.09)  # under the skin
    tissue[grid.ellipse((0, 0), (0.92, 0.90)) < 1] = _Tissue.FAT
    wall = grid.ellipse((0, 0.02), (0.92 - fat, 0.86 - fat))
    tissue[wall < 1] = _Tissue.MUSCLE
    cavity = (grid.ellipse((0, -0.02), (0.84 - fat, 0.74 - fat)) < 1) & (grid.ellipse((0, 0.62), (0.30, 0.28)) > 1)
    tissue[cavity] = _Tissue.FAT
    # ribs descend towards the front: in a slice they are spots along the wall
    turns = 11 * np.arctan2(grid.y, np.abs(grid.x)) + 9 * grid.z
    tissue[(wall > 0.86) & (wall < 0.97) & (np.cos(turns) > 0.6) & (grid.z > -0.15) & (grid.y > -0.6)] = _Tissue.BONE
    for side in (-1, 1):
        tissue[grid.pillar((0.40 * side, 0.1, 1.15), (0.44, 0.62, 0.55)) < 1] = _Tissue.LUNG
        psoas = (grid.ellipse((0.19 * side, 0.46), (0.10, 0.11)) < 1) & (grid.z < 0)
        tissue[psoas] = _Tissue.MUSCLE
    _draw_bowel(tissue, grid, cavity, generator)
    spine = grid.ellipse((0, 0.52), (0.14, 0.15))
    discs = np.cos(2 * np.pi * (4 * grid.z + generator.uniform())) > 0.8
    tissue[spine < 1] = _Tissue.BONE
    tissue[spine < 0.8] = _Tissue.MARROW
    tissue[(spine < 1) & discs] = _Tissue.MUSCLE
    tissue[(grid.ellipse((0, 0.80), (0.04, 0.10)) < 1) | (grid.ellipse((0, 0.70), (0.15, 0.04)) < 1)] = _Tissue.BONE
    tissue[grid.ellipse((0, 0.70), (0.06, 0.05)) < 1] = _Tissue.MUSCLE  # spinal cord
    return tissue, cavity


def _draw_bowel(tissue: np.ndarray, grid: Coordinates, cavity: np.ndarray, generator: np.random.Generator) -> None:
    """Draw loops of bowel in front, with some gas, and the stomach with a level of fluid."""
    loops = smooth_noise(generator, tissue.shape, np.multiply(tissue.shape, (0.035, 0.045, 0.06)))
    loops -= 4 * np.maximum(0, grid.y - 0.05)  # fewer of them towards the back
    front = cavity & (grid.z < 0.45)
    tissue[front & (loops > 0.1)] = _Tissue.BOWEL
    tissue[front & (loops > 1.7) & (grid.z < 0)] = _Tissue.AIR
    stomach = cavity & (_organ(grid, generator, (0.30, -0.26, 0.45), (0.30, 0.27, 0.36)) < 1)
    tissue[stomach] = _Tissue.STOMACH
    tissue[stomach & (grid.y < generator.uniform(-0.48, -0.36))] = _Tissue.AIR


def _draw_organs(tissue: np.ndarray, grid: Coordinates, cavity: np.ndarray, generator: np.random.Generator) -> None:
    """Draw the organs that have a label, and the great vessels; later ones cover earlier ones."""
    right = _organ(grid, generator, (-0.42, -0.02, 0.28), (0.40, 0.56, 0.62))
    left = _organ(grid, generator, (-0.02, -0.32, 0.46), (0.40, 0.26, 0.34))
    tissue[cavity & (np.minimum(right, left) < 1)] = _Tissue.LIVER
    tissue[cavity & (_organ(grid, generator, (0.58, 0.26, 0.42), (0.17, 0.32, 0.36)) < 1)] = _Tissue.SPLEEN
    move = generator.uniform(-0.05, 0.05, 3)
    tube = np.arange(0, len(PANCREAS) - 1 + 1e-6, 0.25)
    path = np.stack([np.interp(tube, np.arange(len(PANCREAS)), axis) for axis in np.transpose(PANCREAS)], axis=1)
    thick = generator.uniform(0.9, 1.1) * np.interp(tube, (0, 2, 4), (1.25, 0.9, 0.9))
    for centre, scale in zip(path + move, thick, strict=True):
        tissue[cavity & (grid.ellipsoid(centre, np.multiply((0.10, 0.10, 0.17), scale)) < 1)] = _Tissue.PANCREAS
    for side, height in ((-1, -0.22), (1, -0.10)):  # the liver pushes the right one down
        centre = np.array((0.40 * side, 0.36, height)) + generator.uniform(-0.03, 0.03, 3)
        bed = grid.ellipsoid(centre, (0.21, 0.23, 0.50)) < 1  # fat around it
        tissue[cavity & bed] = _Tissue.FAT
        sinus = grid.ellipsoid(centre - (0.12 * side, 0.04, 0), (0.11, 0.09, 0.2)) < 1
        tissue[cavity & (_organ(grid, generator, centre, (0.155, 0.175, 0.42), 0) < 1) & ~sinus] = _Tissue.KIDNEY
    for centre in ((0.07, 0.30), (-0.10, 0.28)):  # aorta and lower vena cava
        tissue[grid.ellipse(centre, (0.065, 0.08)) < 1] = _Tissue.VESSEL


def _organ(
    grid: Coordinates, generator: np.random.Generator, centre: Numbers, radii: Numbers, shift: float = 0.03
) -> np.ndarray:
    """Level of an organ's surface, below 1 inside; its place, size and outline differ."""
    moved = np.asarray(centre) + generator.uniform(-shift, shift, 3)
    scaled = np.asarray(radii) * generator.uniform(0.9, 1.1, 3)
    outline = smooth_noise(generator, grid.x.shape, np.multiply(grid.x.shape, (0.06, 0.06, 0.08)))
    return grid.ellipsoid(moved, scaled) + 0.1 * outline
