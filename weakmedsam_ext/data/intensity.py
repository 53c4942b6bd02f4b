"""Scale the intensities of a volume to 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.transforms import ScaleIntensityRange

__all__ = ["IntensityScaling", "check_contrast"]

CONSTANT_REMEDY = "export the volume again, or leave the case out"


def check_contrast(array: np.ndarray, name: str | Path = "image") -> None:
    """Check that the voxels of an image differ: nothing can be seen in a constant one.

    Args:
        array: voxels of any shape.
        name: of the file, for the error.

    Raises:
        ValueError: when all voxels have one value.
    """
    if array.min() == array.max():
        raise ValueError(f"{name}: all voxels have the value {array.flat[0]:g}; {CONSTANT_REMEDY}.")


@dataclass(frozen=True)
class IntensityScaling:
    """Linear scaling of intensities to 0..1; what lies outside is clipped.

    Args:
        percentiles: of the volume's intensities that become 0 and 1.
        window: intensities that become 0 and 1 instead, for example (-160, 240) HU for the abdomen in CT.
        foreground: take the upper percentile of the voxels that are brighter than the volume's mean. The air around a
            head, of which some volumes hold more than others, then has no say.

    Raises:
        ValueError: when a range is none, or both a window and foreground are given.
    """

    percentiles: Sequence[float] = (0.5, 99.5)
    window: Sequence[float] | None = None
    foreground: bool = False

    def __post_init__(self) -> None:
        # configs hold lists and whole numbers; equal settings must look alike in the keys of stores
        lower, upper = map(float, self.percentiles)
        object.__setattr__(self, "percentiles", (lower, upper))
        if self.window is not None:
            object.__setattr__(self, "window", tuple(map(float, self.window)))
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"percentiles: expected 0 <= lower < upper <= 100, but got {tuple(self.percentiles)}.")
        if self.window is not None and (len(self.window) != 2 or not self.window[0] < self.window[1]):
            raise ValueError(f"window: expected two intensities, the lower one first, but got {self.window}.")
        if self.window is not None and self.foreground:
            raise ValueError("foreground: expected False with a window, which needs no percentiles.")

    def __call__(self, array: np.ndarray, name: str | Path = "image") -> np.ndarray:
        """Scale a volume.

        Args:
            array: voxels of any shape.
            name: of the file, for the error.

        Returns:
            float32 of the same shape, in 0..1.

        Raises:
            ValueError: when the image is constant, with a window too, or its percentiles are equal.
        """
        check_contrast(array, name)
        lower, upper = self.window or self._range(array)
        if lower == upper:
            raise ValueError(
                f"{name}: the percentiles {tuple(self.percentiles)} of its intensities are both {lower:g}; "
                "leave the volume out, or widen the percentiles."
            )
        return np.asarray(ScaleIntensityRange(float(lower), float(upper), 0.0, 1.0, clip=True)(array))

    def _range(self, array: np.ndarray) -> tuple[float, float]:
        lower, upper = np.percentile(array, self.percentiles)
        if self.foreground:
            bright = array[array > array.mean()]
            upper = np.percentile(bright, self.percentiles[1]) if bright.size else upper
        return float(lower), float(upper)
