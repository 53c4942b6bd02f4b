"""Synthetic brain MRI of four modalities: a lesion on some slices, and bright look-alikes in both hemispheres."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, label

from .drawing import Coordinates, acquire_mri, check_size, label_tissues, patient_coordinates, smooth_noise

__all__ = ["BrainPhantom", "brain_phantom"]


class _Tissue(IntEnum):
    """Rows of BRIGHTNESS."""

    AIR = 0
    SCALP = 1
    SKULL = 2
    MUSCLE = 3
    FLUID = 4
    GREY = 5
    WHITE = 6
    DEEP_GREY = 7
    LOOK_ALIKE = 8
    CORE = 9
    OEDEMA = 10
    RIM = 11


MODALITIES = ("flair", "t1", "t1ce", "t2")
BRIGHTNESS = np.array(
    (  # flair, t1, t1ce, t2
        (0.00, 0.00, 0.00, 0.00),  # air
        (0.80, 0.85, 0.87, 0.70),  # scalp: fat
        (0.09, 0.10, 0.10, 0.08),  # skull
        (0.24, 0.30, 0.36, 0.22),  # muscle
        (0.10, 0.12, 0.12, 0.90),  # fluid
        (0.40, 0.36, 0.37, 0.50),  # grey matter
        (0.34, 0.50, 0.51, 0.36),  # white matter
        (0.38, 0.42, 0.43, 0.44),  # deep grey matter
        (0.64, 0.36, 0.58, 0.72),  # look-alike
        (0.48, 0.20, 0.22, 0.72),  # core of the lesion
        (0.61, 0.29, 0.30, 0.68),  # its oedema
        (0.66, 0.34, 0.80, 0.60),  # its enhancing rim
    )
)
# as in BraTS: necrosis and core, oedema, enhancing tumour
LABELS = {_Tissue.CORE: 1, _Tissue.OEDEMA: 2, _Tissue.RIM: 4}


class BrainPhantom(NamedTuple):
    """A phantom's volumes (X, Y, Z).

    Attributes:
        images: int16 volumes of about 0..1000 by modality: "flair", "t1", "t1ce", "t2".
        target: labels of the lesion: 1 core, 2 oedema, 4 enhancing rim.
        look_alike: mask of the bright spots beside the ventricles.
        side: hemisphere of the lesion: "left", "right", or "" without a lesion.
    """

    images: dict[str, np.ndarray]
    target: np.ndarray
    look_alike: np.ndarray
    side: str


def brain_phantom(
    generator: np.random.Generator, size: Sequence[int] = (80, 96, 24), lesion: bool = True
) -> BrainPhantom:
    """Draw a head with a brain in it.

    The lesion has an irregular outline, lies in either hemisphere, and is seen on about a third of the slices. It is
    brighter than the brain in FLAIR and T2, dark in T1, and its rim is bright in T1 with contrast agent. The
    look-alikes are as bright as the lesion in FLAIR. They lie beside the ventricles, in both hemispheres, on slices
    with and without a lesion. Scalp and the fat of the orbits are brighter than both. A bias field and Rician noise
    are added.

    Args:
        generator: source of randomness; the same state gives the same volumes.
        size: voxels along each axis.
        lesion: whether there is one.

    Returns:
        the phantom.

    Raises:
        ValueError: when the size is too small to hold the structures.
    """
    check_size(size)
    grid = patient_coordinates(generator, size)
    brain = _brain_level(grid)
    tissue = _draw_head(grid, brain, generator)
    _draw_brain(tissue, grid, brain, generator)
    look_alike = _spots(grid, generator) & (brain < 0.9)
    tissue[look_alike] = _Tissue.LOOK_ALIKE
    side = ""
    if lesion:
        side = str(generator.choice(["left", "right"]))
        _draw_lesion(tissue, grid, (brain < 0.95) & ~binary_dilation(look_alike), side, generator)
    target = label_tissues(tissue, LABELS)
    return BrainPhantom(_scan(tissue, generator), target, look_alike.astype(np.uint8), side if target.any() else "")


def _brain_level(grid: Coordinates) -> np.ndarray:
    """Level of the brain's surface: below 1 inside. Towards the neck it gives way to the face and moves back."""
    low = np.maximum(0, -(grid.z + 0.25))
    moved = Coordinates(grid.x, grid.y - 0.4 * low, grid.z)
    return moved.ellipse((0, 0), (0.70, 0.78)) * (1 + low) + ((grid.z + 0.1) / 0.96) ** 4


def _draw_head(grid: Coordinates, brain: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Tissue of everything around the brain."""
    tissue = np.full(grid.x.shape, _Tissue.AIR, np.intp)
    head = grid.ellipse((0, 0), (0.86, 0.93)) + ((grid.z + 0.25) / 1.27) ** 4
    tissue[head < 1] = _Tissue.SCALP
    under = (head < generator.uniform(0.78, 0.88)) & (brain > 1)
    tissue[under] = _Tissue.MUSCLE
    # below the brain bone, fat, air and muscle alternate
    patches = smooth_noise(generator, tissue.shape, np.multiply(tissue.shape, (0.03, 0.03, 0.05)))
    base = under & (grid.z < -0.35)
    tissue[base & (patches > 1.1)] = _Tissue.SCALP
    tissue[base & (patches < -0.6)] = _Tissue.SKULL
    tissue[(brain < 1.35) & (head < 0.97)] = _Tissue.SKULL
    for side in (-1, 1):
        tissue[grid.ellipsoid((0.30 * side, -0.66, -0.62), (0.20, 0.20, 0.26)) < 1] = _Tissue.SCALP  # fat of orbits
        tissue[grid.ellipsoid((0.30 * side, -0.70, -0.62), (0.13, 0.13, 0.17)) < 1] = _Tissue.FLUID  # eyes
    return tissue


def _draw_brain(tissue: np.ndarray, grid: Coordinates, brain: np.ndarray, generator: np.random.Generator) -> None:
    """Draw cortex, white matter, deep grey matter and fluid."""
    tissue[brain < 1.1] = _Tissue.FLUID
    folds = smooth_noise(generator, tissue.shape, np.multiply(tissue.shape, (0.02, 0.02, 0.04)))
    tissue[brain + 0.06 * folds < 1] = _Tissue.GREY
    tissue[brain + 0.18 * folds < 0.68] = _Tissue.WHITE
    inside = brain < 1.05
    width = generator.uniform(0.8, 1.25)  # of the ventricles
    for side in (-1, 1):
        tissue[grid.ellipsoid((0.24 * side, 0.02, 0.02), (0.12, 0.20, 0.28)) < 1] = _Tissue.DEEP_GREY
        # curved outwards, so that both together look like butterfly wings
        curve = 0.09 + 0.35 * (grid.y + 0.02) ** 2
        horn = Coordinates(grid.x - side * curve, grid.y, grid.z)
        tissue[inside & (horn.pillar((0, 0, 0.18), (0.06 * width, 0.34, 0.34)) < 1)] = _Tissue.FLUID
    fissure = (np.abs(grid.x) < 0.018) & ((np.abs(grid.y) > 0.36) | (grid.z > 0.5)) & (grid.z > -0.4)
    tissue[inside & fissure] = _Tissue.FLUID


def _spots(grid: Coordinates, generator: np.random.Generator) -> np.ndarray:
    """Mask of bright spots at the horns of the ventricles, mirrored from one hemisphere to the other."""
    place = np.array((0.22, generator.choice((-0.36, 0.40)), 0.1)) + generator.uniform(-0.04, 0.04, 3)
    radii = np.array((0.09, 0.12, 0.55)) * generator.uniform(0.8, 1.2, 3)
    spots = np.zeros(grid.x.shape, bool)
    for side in (-1, 1):
        spots |= grid.pillar(place * (side, 1, 1), radii * generator.uniform(0.85, 1.15, 3)) < 1
    return spots


def _draw_lesion(
    tissue: np.ndarray, grid: Coordinates, allowed: np.ndarray, side: str, generator: np.random.Generator
) -> None:
    """Draw oedema, enhancing rim and core, where allowed and not in fluid."""
    sign = 1 if side == "left" else -1
    centre = generator.uniform((0.32, -0.34, -0.25), (0.44, 0.40, 0.50)) * (sign, 1, 1)
    radii = generator.uniform((0.18, 0.20, 0.22), (0.30, 0.38, 0.42))
    outline = smooth_noise(generator, tissue.shape, np.multiply(tissue.shape, (0.05, 0.05, 0.07)))
    level = grid.pillar(centre, radii) + 0.32 * outline
    places = allowed & (level < 1) & (sign * grid.x > 0.02) & (tissue != _Tissue.FLUID)
    parts, _ = label(places)
    sizes = np.bincount(parts.ravel())[1:]
    if sizes.size == 0:  # hidden by what lies around it
        return
    places = parts == np.argmax(sizes) + 1
    tissue[places] = _Tissue.OEDEMA
    inner = grid.pillar(centre, radii) + 0.2 * outline
    tissue[places & (inner < 0.45)] = _Tissue.RIM
    tissue[places & (inner < 0.2)] = _Tissue.CORE


def _scan(tissue: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Scan every modality: brightness differs by patient, brain and lesion have texture."""
    brightness = BRIGHTNESS + np.where(BRIGHTNESS > 0, generator.uniform(-0.03, 0.03, BRIGHTNESS.shape), 0)
    weak = smooth_noise(generator, tissue.shape, np.multiply(tissue.shape, (0.02, 0.02, 0.03)))
    strength = np.where(tissue >= _Tissue.CORE, 0.09, np.where(tissue == _Tissue.SCALP, 0.1, 0.02))
    texture = np.where(tissue == _Tissue.AIR, 0, strength * weak)
    return {
        name: acquire_mri(np.maximum(brightness[tissue, column] + texture, 0), generator)
        for column, name in enumerate(MODALITIES)
    }
