"""What all phantoms are drawn with: coordinates of a patient, smooth noise, scans, affines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

__all__ = [
    "Coordinates",
    "Numbers",
    "acquire_ct",
    "acquire_mri",
    "check_size",
    "label_tissues",
    "oblique_affine",
    "patient_coordinates",
    "smooth_noise",
    "straight_affine",
]

MINIMUM_SIZE = (32, 32, 8)
INTENSITY_SCALE = 1000  # MRI is stored as 16-bit integers, as scanners do

Numbers: TypeAlias = Sequence[float] | np.ndarray


class Coordinates(NamedTuple):
    """Voxel centres in -1..1: to the patient's left, to the back, to the head."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray

    def ellipse(self, centre: Numbers, radii: Numbers) -> np.ndarray:
        """Squared distance from each slice's centre in units of the radii: below 1 inside."""
        return ((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2

    def ellipsoid(self, centre: Numbers, radii: Numbers) -> np.ndarray:
        """Squared distance from a centre in units of the radii: below 1 inside."""
        return self.ellipse(centre, radii) + ((self.z - centre[2]) / radii[2]) ** 2

    def pillar(self, centre: Numbers, radii: Numbers) -> np.ndarray:
        """As `ellipsoid`, but with blunt ends along z: few slices show only a speck."""
        return self.ellipse(centre, radii) + ((self.z - centre[2]) / radii[2]) ** 4


def check_size(size: Sequence[int]) -> None:
    """Check that a volume can hold the structures.

    Args:
        size: voxels along each axis.

    Raises:
        ValueError: when it is not three whole numbers, or one is too small.
    """
    fits = isinstance(size, Sequence) and len(size) == 3 and all(isinstance(number, int) for number in size)
    if not fits or any(got < least for got, least in zip(size, MINIMUM_SIZE, strict=True)):
        raise ValueError(f"size: expected three whole numbers, at least {MINIMUM_SIZE}, but got {size!r}.")


def patient_coordinates(generator: np.random.Generator, size: Sequence[int]) -> Coordinates:
    """Coordinates of a patient who lies shifted, tilted and scaled as a whole."""
    x, y, z = np.meshgrid(*((np.arange(n) + 0.5) / n * 2 - 1 for n in size), indexing="ij")
    shift, tilt = generator.uniform(-0.05, 0.05, (2, 2))
    scale = generator.uniform(0.9, 1.05)
    return Coordinates((x - shift[0] - tilt[0] * z) / scale, (y - shift[1] - tilt[1] * z) / scale, z)


def smooth_noise(generator: np.random.Generator, size: Sequence[int], sigma: Numbers) -> np.ndarray:
    """Random field of mean 0 and standard deviation 1; sigma is in voxels."""
    field = gaussian_filter(generator.standard_normal(tuple(size)), tuple(sigma))
    return (field - field.mean()) / field.std()


def label_tissues(tissue: np.ndarray, labels: Mapping[Any, int]) -> np.ndarray:
    """Mask, uint8, with the label value of every tissue that has one, else 0."""
    mask = np.zeros(tissue.shape, np.uint8)
    for kind, value in labels.items():
        mask[tissue == kind] = value
    return mask


def acquire_mri(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Simulate the scan of brightness 0..1: partial volume, coil sensitivity, Rician noise, integers."""
    blurred = gaussian_filter(image, (0.6, 0.6, 0.3))
    bias = np.exp(0.15 * smooth_noise(generator, image.shape, np.multiply(image.shape, 0.3)))
    real, imaginary = 0.04 * generator.standard_normal((2, *image.shape))
    return np.rint(INTENSITY_SCALE * np.hypot(blurred * bias + real, imaginary)).astype(np.int16)


def acquire_ct(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Simulate the scan of Hounsfield units: partial volume, noise of neighbouring voxels, integers from -1024."""
    blurred = gaussian_filter(image, (0.5, 0.5, 0.3))
    noise = 15 * smooth_noise(generator, image.shape, (0.5, 0.5, 0))
    return np.rint(np.maximum(blurred + noise, -1024)).astype(np.int16)


def oblique_affine(generator: np.random.Generator, size: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Voxels to RAS mm for a scan that was tilted by a few degrees."""
    turn = Rotation.from_euler("xyz", generator.uniform(-10, 10, 3), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing) * np.array([[-1.0], [-1.0], [1.0]])  # LPS axes
    affine[:3, 3] = generator.uniform(-20, 20, 3) - affine[:3, :3] @ (np.asarray(size) / 2)
    return affine


def straight_affine(size: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Voxels to RAS mm for a scan along the patient's axes, with RAS 0 in its middle."""
    affine = np.diag((-spacing[0], -spacing[1], spacing[2], 1.0))  # LPS axes
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(size) / 2)
    return affine
