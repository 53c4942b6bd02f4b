"""Store of memory-mapped volumes; each volume is resampled once to one voxel size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing
from monai.utils import ensure_tuple, ensure_tuple_rep

from .anti_alias import anti_alias
from .array_store import (
    ArrayStore,
    array_path,
    is_complete,
    keyed_volumes,
    save_array,
)
from .intensity import IntensityScaling
from .io import Volume, load_volume

__all__ = ["VolumePreprocessing", "VolumeStore", "build_volume_store"]

FORMAT = 2  # part of every key: raise it when the same settings give other numbers


@dataclass(frozen=True)
class VolumePreprocessing:
    """Preprocessing of a volume to 0..1, one voxel size and RAS order.

    Args:
        spacing: size of a voxel to the right, front and head in mm; one number for cubes.
        percentiles: of the volume's intensities that become 0 and 1; what lies outside is clipped.
    """

    spacing: float | Sequence[float] = 2.0
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        IntensityScaling(self.percentiles)
        sizes = ensure_tuple(self.spacing)
        if len(sizes) not in (1, 3) or not all(size > 0 for size in sizes):
            raise ValueError(f"spacing: expected one or three positive numbers of mm, but got {self.spacing}.")
        object.__setattr__(self, "spacing", tuple(map(float, ensure_tuple_rep(self.spacing, 3))))

    def __call__(self, volume: Volume) -> np.ndarray:
        """Preprocess an image.

        Returns:
            float32 (D, H, W) in 0..1.

        Raises:
            ValueError: when the intensities do not vary.
        """
        scaled = IntensityScaling(self.percentiles)(volume.array, volume.path)
        smooth = anti_alias(scaled, volume.affine, self.spacing)
        return self._resampled(smooth, volume.affine, "bilinear").clip(0, 1)

    def mask(self, mask: Volume) -> np.ndarray:
        """Bring label values to the voxels of its image, int32 (D, H, W)."""
        return self._resampled(mask.array, mask.affine, "nearest").astype(np.int32)

    def _resampled(self, array: np.ndarray, affine: np.ndarray, mode: str) -> np.ndarray:
        image = MetaTensor(torch.from_numpy(array.astype(np.float32))[None], affine=torch.from_numpy(affine))
        # MONAI's way from the axis codes to letters changed in 1.5; given letters hold in all versions
        axes = Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
        grid = Compose([axes, Spacing(self.spacing, mode=mode, padding_mode="border", diagonal=False)])
        return grid(image)[0].numpy()


@dataclass(frozen=True)
class VolumeStore(ArrayStore):
    """Resampled volumes on disk, float16 (D, H, W) in 0..1, made by `build_volume_store`. No file stays open.

    Args:
        root: folder of the memory-mapped arrays.
        keys: case -> key of its array.
        preprocessing: how the volumes were made.
    """

    kind = "volume"

    preprocessing: VolumePreprocessing


def build_volume_store(
    cases: Sequence[Mapping[str, str]],
    root: str | Path,
    spacing: float | Sequence[float] = 2.0,
    percentiles: Sequence[float] = (0.5, 99.5),
    progress: bool = True,
) -> VolumeStore:
    """Resample volumes into a store, one after the other; what the store already holds is not resampled again.

    Arrays are keyed by the hash of the file's content and of the settings.

    Args:
        cases: items with "case" and "image" (path of the volume).
        root: folder of the store; several data sets and settings can share it.
        spacing: see `VolumePreprocessing`.
        percentiles: see `VolumePreprocessing`.
        progress: show a progress bar.

    Returns:
        the store.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no case or one twice, a volume is damaged, not 3-D or constant, or a setting is wrong.
    """
    lower, upper = percentiles
    preprocessing = VolumePreprocessing(spacing, (float(lower), float(upper)))
    root = Path(root).expanduser().absolute()
    settings = ["volume", FORMAT, asdict(preprocessing)]
    keys = {}
    for case, (path, *_), key in keyed_volumes(cases, root, settings, f"volume store {spacing} mm", progress):
        keys[case] = key
        if not is_complete(array_path(root, key)):
            save_array(preprocessing(load_volume(path)).astype(np.float16), array_path(root, key))
    return VolumeStore(root, keys, preprocessing)
