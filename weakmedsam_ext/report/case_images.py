"""A case turned as a radiologist looks at it, and its slices as small pictures with outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data.utils import affine_to_spacing
from PIL import Image
from skimage.measure import find_contours

from ..data import check_same_grid, class_numbers, images_of, load_case_mask, load_mask, load_volume, prediction_path
from ..data.volume_formats import is_picture
from ..handlers.planes import fullest_plane, grey_window

__all__ = ["CaseImages", "load_case"]

ClassMap = Mapping[str, Any]
MAX_SIDE = 256  # pixels of a picture
QUALITY = 82  # of the JPEG


@dataclass(frozen=True)
class CaseImages:
    """Image and masks of a case, axes from left to right, back to front and foot to head (RAS).

    Args:
        name: of the case.
        image: (X, Y, Z).
        layers: title -> class numbers (X, Y, Z), 0 is background; "reference" is the real mask.
        spacing: size of a voxel in mm.
        axis: across which slices are taken.
        has_sides: whether left and right are those of a patient; pictures (PNG, JPEG) do not know.
    """

    name: str
    image: np.ndarray
    layers: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    axis: int
    has_sides: bool = True

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return self.image.shape[self.axis]

    @property
    def start(self) -> int:
        """The slice that figures show: that with most of the reference, or of the next mask if it is empty."""
        shown = next((mask for mask in self.layers.values() if mask.any()), self.image)
        return fullest_plane(shown, self.axis)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a slice in mm."""
        across, up = (self.image.shape[a] * self.spacing[a] for a in range(3) if a != self.axis)
        return across, up

    @property
    def pixel_area(self) -> float:
        """Area of a pixel of a slice in square mm."""
        return float(np.prod([self.spacing[a] for a in range(3) if a != self.axis]))

    def plane(self, volume: np.ndarray, number: int) -> np.ndarray:
        """A slice as it is looked at, (rows, columns): front or head at the top, the patient's right side to the left.

        Sagittal slices look to the left.
        """
        # not np.take, which first copies all of a volume that was turned
        across: tuple[slice | int, ...] = (*(slice(None),) * self.axis, number)
        return volume[across][::-1, ::-1].T

    @cached_property
    def window(self) -> tuple[float, float]:
        """Values that are black and white."""
        return grey_window(self.image)

    def picture(self, number: int, max_side: int = MAX_SIDE) -> str:
        """A slice as a JPEG image in a data URL."""
        lower, upper = self.window
        grey = np.clip((self.plane(self.image, number) - lower) / max(upper - lower, 1e-9), 0, 1)
        picture = Image.fromarray((grey * 255).round().astype(np.uint8))
        scale = max_side / max(picture.size)
        if scale < 1:
            width, height = (max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

    def outline(self, layer: str, number: int) -> str:
        """Borders of all classes of a layer in a slice, as an SVG path in mm; empty where there is nothing."""
        mask = self.plane(self.layers[layer], number)
        width, height = (self.spacing[a] for a in range(3) if a != self.axis)
        parts = []
        for value in np.unique(mask[mask > 0]):
            for line in find_contours(np.pad(mask == value, 1).astype(float), 0.5):
                points = " ".join(f"{(x - 0.5) * width:.1f},{(y - 0.5) * height:.1f}" for y, x in line[:-1])
                parts.append(f"M{points}Z")
        return "".join(parts)


def load_case(item: Mapping[str, Any], folders: Mapping[str, str | Path], class_map: ClassMap, axis: int) -> CaseImages:
    """Read a case with its masks.

    Args:
        item: with "case", "image" and "label" (path of the real mask).
        folders: title -> folder of masks in which class k has the value k + 1.
        class_map: class name -> value or values in the real masks.
        axis: of the turned volume, across which slices are taken.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a file is damaged, or grids differ.
    """
    image = load_volume(images_of(item)[0])
    layers = {"reference": class_numbers(load_case_mask(item).array, class_map)}
    for title, folder in folders.items():
        mask = load_mask(prediction_path(folder, item))
        check_same_grid(image, mask)
        layers[title] = mask.array
    turn = nib.orientations.io_orientation(image.affine)
    spacing = affine_to_spacing(image.affine, suppress_zeros=False)
    x, y, z = (float(spacing[int(place)]) for place in np.argsort(turn[:, 0]))
    return CaseImages(
        str(item["case"]),
        _turned(image.array, turn),
        {title: _turned(mask, turn) for title, mask in layers.items()},
        (x, y, z),
        axis,
        not is_picture(image.path),
    )


def _turned(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return np.asarray(nib.orientations.apply_orientation(array, turn))
