"""Store of memory-mapped slices; each volume is decoded once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import generate_spatial_bounding_box
from monai.utils import look_up_option
from torch import Tensor

from ..array_store import (
    ArrayStore,
    array_path,
    is_complete,
    keyed_volumes,
    save_array,
)
from ..intensity import IntensityScaling
from ..io import Volume, check_same_grid, load_volume, read_json, write_json
from .geometry import SLICE_AXES, Box, SliceGeometry

__all__ = ["SlicePreprocessing", "SliceStore", "build_slice_store"]

logger = logging.getLogger(__name__)

FORMAT = 2  # part of every key: raise it when the same settings give other numbers


@dataclass(frozen=True)
class SlicePreprocessing:
    """Preprocessing of a volume to slices in 0..1 on a square grid, see `SliceGeometry`.

    Args:
        img_size: pixels along each side of a slice.
        percentiles: of the whole volume's intensities that become 0 and 1; what lies outside is clipped.
        content_threshold: margins where no slice exceeds this intensity (0..1, after scaling) are cropped; None keeps
            them.
        axis: anatomical direction of the slices: "axial", "coronal" or "sagittal".
        window: see `IntensityScaling`.
        foreground: see `IntensityScaling`.
    """

    img_size: int = 256
    percentiles: Sequence[float] = (0.5, 99.5)
    content_threshold: float | None = 0.05
    axis: str = "axial"
    window: Sequence[float] | None = None
    foreground: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "percentiles", self.scaling.percentiles)
        object.__setattr__(self, "window", self.scaling.window)
        look_up_option(self.axis, list(SLICE_AXES))
        if self.img_size < 1:
            raise ValueError(f"img_size: expected a positive number of pixels, but got {self.img_size}.")
        if self.content_threshold is not None and not 0 <= self.content_threshold < 1:
            raise ValueError(f"content_threshold: expected 0 <= threshold < 1 or None, got {self.content_threshold}.")

    @property
    def scaling(self) -> IntensityScaling:
        """Scaling of the intensities."""
        return IntensityScaling(self.percentiles, self.window, self.foreground)

    def __call__(self, *volumes: Volume) -> tuple[Tensor, SliceGeometry]:
        """Preprocess a volume, or the volumes that are the channels of one case.

        Returns:
            slices, float32 (slices, img_size, img_size) in 0..1, or (slices, C, img_size, img_size) of C > 1 volumes,
            and the way back to the volume's grid.

        Raises:
            ValueError: when the intensities do not vary, or the volumes differ in their grid.
        """
        scaled = [self.scaling(volume.array, volume.path) for volume in volumes]
        for volume in volumes[1:]:
            check_same_grid(volumes[0], volume)
        geometry = SliceGeometry.of_grid(volumes[0], self.img_size, self.axis)
        if self.content_threshold is not None:
            brightest = torch.stack([geometry.planes(one).amax(0) for one in scaled]).amax(0)
            geometry = replace(geometry, box=_content_box(brightest, self.content_threshold))
        # antialiasing is a weighted mean up to rounding
        slices = [geometry.to_network(one).clamp_(0, 1) for one in scaled]
        return slices[0] if len(slices) == 1 else torch.stack(slices, dim=1), geometry


def _content_box(image: Tensor, threshold: float) -> Box:
    """Rows and columns of an image from the first to the last that exceed a threshold."""
    (row_start, column_start), (row_end, column_end) = generate_spatial_bounding_box(
        image[None], select_fn=lambda values: values > threshold
    )
    return (int(row_start), int(row_end)), (int(column_start), int(column_end))


@dataclass(frozen=True)
class SliceStore(ArrayStore):
    """Slices of many volumes on disk, float16 (slices, img_size, img_size) in 0..1, made by `build_slice_store`.

    A slice is read when it is asked for and no file stays open: memory does not grow with the number of volumes, and
    the store can be sent to the workers of a data loader.

    Args:
        root: folder of the memory-mapped arrays.
        keys: case -> key of its arrays.
        geometries: case -> way back to its volume's grid.
        preprocessing: how the slices were made.
    """

    kind = "slice"

    geometries: Mapping[str, SliceGeometry]
    preprocessing: SlicePreprocessing

    def geometry(self, case: str) -> SliceGeometry:
        """Geometry of a case, which maps predictions back to its volume's grid."""
        return self.geometries[case]


def build_slice_store(
    cases: Sequence[Mapping[str, Any]],
    root: str | Path,
    img_size: int = 256,
    percentiles: Sequence[float] = (0.5, 99.5),
    content_threshold: float | None = 0.05,
    progress: bool = True,
    axis: str = "axial",
    window: Sequence[float] | None = None,
    foreground: bool = False,
) -> SliceStore:
    """Decode volumes into a slice store, one after the other; what the store already holds is not decoded again.

    Arrays are keyed by the hash of the file's content and of the settings: a changed file or setting is never answered
    with old slices, and a build that was interrupted goes on where it stopped.

    Args:
        cases: items with "case" and "image" (path of the volume, or paths of its channels).
        root: folder of the store; several data sets and settings can share it.
        img_size: see `SlicePreprocessing`.
        percentiles: see `SlicePreprocessing`.
        content_threshold: see `SlicePreprocessing`.
        progress: show a progress bar.
        axis: see `SlicePreprocessing`.
        window: see `IntensityScaling`.
        foreground: see `IntensityScaling`.

    Returns:
        the store.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no case or one twice, a volume is damaged, not 3-D or constant, or a setting is wrong.
    """
    preprocessing = SlicePreprocessing(int(img_size), percentiles, content_threshold, axis, window, foreground)
    root = Path(root).expanduser().absolute()
    settings = ["slice", FORMAT, asdict(preprocessing)]
    keys, geometries = {}, {}
    for case, paths, key in keyed_volumes(cases, root, settings, f"slice store {img_size} px", progress):
        keys[case] = key
        geometries[case] = _stored_geometry(root, key) or _decode(paths, preprocessing, root, key)
    return SliceStore(root, keys, geometries, preprocessing)


def _decode(paths: Sequence[Path], preprocessing: SlicePreprocessing, root: Path, key: str) -> SliceGeometry:
    slices, geometry = preprocessing(*map(load_volume, paths))
    save_array(slices.numpy().astype(np.float16), array_path(root, key))
    # last: an array without its geometry is an unfinished one
    write_json({"image": paths[0].name, **asdict(preprocessing), "geometry": asdict(geometry)}, root / f"{key}.json")
    return geometry


def _stored_geometry(root: Path, key: str) -> SliceGeometry | None:
    """Geometry of a finished entry; None when there is none, or when it was damaged."""
    if not is_complete(array_path(root, key)):
        return None
    try:
        return SliceGeometry.from_json(read_json(root / f"{key}.json", "build it again")["geometry"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s has no readable geometry (%s) and is made again.", array_path(root, key), error)
        return None
