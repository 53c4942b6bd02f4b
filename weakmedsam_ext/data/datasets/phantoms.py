"""Synthetic heart-like volumes: a target, a look-alike that co-occurs with it, and distractors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from monai.utils import look_up_option
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from ..io import write_nifti
from .decathlon import check_decathlon_output, image_path, label_path, write_dataset_json

__all__ = ["SUBTYPES", "HeartPhantom", "heart_phantom", "write_phantoms"]

NAME = "HeartPhantom"
LAYOUTS = ("decathlon",)
LABELS = ("background", "left atrium")
MINIMUM_SIZE = (32, 32, 8)
SPACING = (1.25, 1.25, 2.7)  # mm, as in Task02_Heart but for coarser slices
INTENSITY_SCALE = 1000  # stored as 16-bit integers, as scanners do

_Numbers: TypeAlias = Sequence[float] | np.ndarray


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


class _Coordinates(NamedTuple):
    """Voxel centres in -1..1: to the patient's left, to the back, to the head."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def ellipse(self, centre: _Numbers, radii: _Numbers) -> np.ndarray:
        """Squared distance from each slice's centre in units of the radii: below 1 inside."""
        return ((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2


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
    _check_size(size)
    subtype = look_up_option(subtype or str(generator.choice(list(SUBTYPES))), list(SUBTYPES))
    x, y, z = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in size), indexing="ij")
    # patients lie differently: shifted, tilted and scaled as a whole
    shift, tilt = generator.uniform(-0.05, 0.05, (2, 2))
    scale = generator.uniform(0.9, 1.05)
    grid = _Coordinates((x - shift[0] - tilt[0] * z) / scale, (y - shift[1] - tilt[1] * z) / scale, z)

    look = SUBTYPES[subtype]
    level = _atrium_level(grid, look, generator)
    vessel = grid.ellipse((0.32, -0.42) + generator.uniform(-0.04, 0.04, 2), (0.11, 0.11))
    # the gap keeps the two apart, so that a mask of one never counts for the other
    target = (level < 1) & (vessel > 4)
    look_alike = (vessel < 1) & _nearly_same_slices(target, generator)

    texture = look.texture * _smooth_noise(generator, grid.x.shape, (1.2, 1.2, 0.6))
    image = np.where(target, np.where(level > 0.7, look.wall, look.inside) + texture, _anatomy(grid, generator))
    image = np.where(look_alike, 0.95, image)
    return HeartPhantom(_acquire(image, generator), target.astype(np.uint8), look_alike.astype(np.uint8), subtype)


def write_phantoms(
    output: str | Path,
    layout: str = "decathlon",
    num_cases: int = 12,
    seed: int = 0,
    size: Sequence[int] = (88, 80, 28),
    progress: bool = True,
) -> Path:
    """Write heart phantoms in the layout of a public data set.

    Args:
        output: folder to write to; earlier phantoms in it are replaced.
        layout: "decathlon": imagesTr/heart_XXX.nii.gz, labelsTr/, dataset.json, and cases.json with the sub-types.
        num_cases: number of volumes.
        seed: case i is the same for the same seed and size, however many cases there are.
        size: voxels along each axis.
        progress: show a progress bar.

    Returns:
        path of dataset.json, which is written last.

    Raises:
        ValueError: when the layout is unknown, there is no case, the size is too small, or the folder holds other data.
    """
    look_up_option(layout, LAYOUTS)
    _check_size(size)
    for name, value, least in (("num_cases", num_cases, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected a whole number, at least {least}, but got {value!r}.")
    output = Path(output).expanduser()
    check_decathlon_output(output, NAME)
    cases = {}
    subtypes = _deal_subtypes(num_cases, np.random.default_rng(seed))
    for number, subtype in enumerate(tqdm(subtypes, desc="phantoms", unit="case", disable=not progress), start=1):
        name, generator = f"heart_{number:03d}", np.random.default_rng([seed, number])
        affine, phantom = _oblique_affine(generator, size), heart_phantom(generator, size, subtype)
        write_nifti(phantom.target, affine, label_path(output, name))
        write_nifti(phantom.image, affine, image_path(output, name))
        cases[name] = {"subtype": subtype, "seed": seed}
    return write_dataset_json(output, NAME, "Synthetic heart-like volumes, no patient data", LABELS, cases)


def _deal_subtypes(num_cases: int, generator: np.random.Generator) -> list[str]:
    """Sub-types in shuffled rounds: few cases show all of them, and more cases do not change the first ones."""
    rounds = -(-num_cases // len(SUBTYPES))
    return [str(name) for _ in range(rounds) for name in generator.permutation(list(SUBTYPES))][:num_cases]


def _check_size(size: Sequence[int]) -> None:
    fits = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(number, int) for number in size)
    if not fits or any(got < least for got, least in zip(size, MINIMUM_SIZE, strict=True)):
        raise ValueError(f"size: expected three whole numbers, at least {MINIMUM_SIZE}, but got {size!r}.")


def _atrium_level(grid: _Coordinates, look: _Look, generator: np.random.Generator) -> np.ndarray:
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
    outline = _smooth_noise(generator, grid.x.shape, np.multiply(grid.x.shape, (0.08, 0.08, 0.1)))
    return level + 0.15 * outline


def _nearly_same_slices(target: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Slices from the target's first to its last, each end moved by at most one; broadcasts over a volume."""
    seen = np.flatnonzero(target.any(axis=(0, 1)))
    start, end = (seen[0], seen[-1]) + generator.integers(-1, 2, 2)
    index = np.arange(target.shape[2])
    return (index >= start) & (index <= end)


def _anatomy(grid: _Coordinates, generator: np.random.Generator) -> np.ndarray:
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


def _acquire(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Simulate the scan of brightness 0..1: partial volume, coil sensitivity, Rician noise, integers."""
    blurred = gaussian_filter(image, (0.6, 0.6, 0.3))
    bias = np.exp(0.15 * _smooth_noise(generator, image.shape, np.multiply(image.shape, 0.3)))
    real, imaginary = 0.04 * generator.standard_normal((2, *image.shape))
    return np.rint(INTENSITY_SCALE * np.hypot(blurred * bias + real, imaginary)).astype(np.int16)


def _smooth_noise(generator: np.random.Generator, size: tuple[int, ...], sigma: _Numbers) -> np.ndarray:
    """Random field of mean 0 and standard deviation 1."""
    field = gaussian_filter(generator.standard_normal(size), tuple(sigma))
    return (field - field.mean()) / field.std()


def _oblique_affine(generator: np.random.Generator, size: Sequence[int]) -> np.ndarray:
    """Voxels to RAS mm for a scan that was tilted by a few degrees."""
    turn = Rotation.from_euler("xyz", generator.uniform(-10, 10, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING) * np.array([[-1.0], [-1.0], [1.0]])  # LPS axes
    affine[:3, 3] = generator.uniform(-20, 20, 3) - affine[:3, :3] @ (np.asarray(size) / 2)
    return affine
