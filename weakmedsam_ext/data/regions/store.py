"""Regions of slices and of volumes on disk, as targets of promptable pre-training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from ..array_store import ArrayStore, array_key, array_path, is_complete, save_array
from ..progress import show_progress
from ..slices.store import SliceStore
from ..volume_store import VolumeStore
from .image_regions import check_region_settings, region_hierarchy
from .watershed_hierarchy import watershed_hierarchy
from .worker_pool import compute_cases

__all__ = [
    "DEPTHS",
    "SMOOTHINGS",
    "ReadRegionsd",
    "RegionStore",
    "build_region_store",
    "build_volume_regions",
    "store_regions",
]

SLICE_FORMAT = VOLUME_FORMAT = 4  # part of every key: raise it when the same settings give other regions
DEPTHS, SMOOTHINGS = (0.01, 0.02), (0.7, 1.0, 1.4)


@dataclass(frozen=True)
class RegionStore(ArrayStore):
    """Regions of many volumes on disk, uint16, made by `build_region_store` or `build_volume_regions`.

    A case is (Z, levels, H, W) of slices, or (levels, D, H, W) of a volume.

    Args:
        root: folder of the memory-mapped arrays.
        keys: case -> key of its array.
    """

    kind = "region"


def build_region_store(
    slices: SliceStore,
    root: str | Path,
    scales: Sequence[float] | None = None,
    min_size: float = 0.002,
    progress: bool = True,
    method: str = "felzenszwalb",
    smoothings: Sequence[float] | None = None,
    num_workers: int = 1,
) -> RegionStore:
    """Find the regions of all slices of a store, case by case; what is there already is not computed again.

    Args:
        slices: the slices.
        root: folder of the regions.
        scales: see `region_hierarchy`.
        min_size: see `region_hierarchy`.
        progress: show a progress bar.
        method: see `region_hierarchy`.
        smoothings: see `region_hierarchy`.
        num_workers: see `store_regions`.

    Returns:
        the store.

    Raises:
        ValueError: when a setting is wrong, see `check_region_settings`.
    """
    settings = ["slice", SLICE_FORMAT, method, *check_region_settings(scales, min_size, method, smoothings), min_size]
    how = {"scales": scales, "min_size": min_size, "method": method, "smoothings": smoothings}
    regions_of = partial(_slice_regions, slices, how)
    return store_regions(slices.keys, settings, regions_of, root, progress, num_workers)


def build_volume_regions(
    volumes: VolumeStore,
    root: str | Path,
    depths: Sequence[float] = DEPTHS,
    progress: bool = True,
    smoothings: Sequence[float] = SMOOTHINGS,
    num_workers: int = 1,
) -> RegionStore:
    """Find the regions of all volumes of a store, case by case; what is there already is not computed again.

    Args:
        volumes: the volumes.
        root: folder of the regions.
        depths: of the basins of the gradient magnitude, ascending; see `watershed_hierarchy`. The defaults suit
            cardiac MRI with voxels of 2.5 mm.
        progress: show a progress bar.
        smoothings: see `watershed_hierarchy`.
        num_workers: see `store_regions`.

    Returns:
        the store; a case is uint16 (levels, D, H, W).

    Raises:
        ValueError: when a setting is wrong, or a volume has more regions than 16 bits can number.
    """
    depths, smoothings = ([float(one) for one in values] for values in (depths, smoothings))

    regions_of = partial(_volume_regions, volumes, depths, smoothings)
    settings = ["volume", VOLUME_FORMAT, depths, smoothings]
    return store_regions(volumes.keys, settings, regions_of, root, progress, num_workers)


def store_regions(
    keys: Mapping[str, str],
    settings: Sequence[Any],
    regions_of: Callable[[str], np.ndarray],
    root: str | Path,
    progress: bool,
    num_workers: int = 1,
) -> RegionStore:
    """Compute the regions that the folder does not hold yet, case by case.

    Args:
        keys: case -> key of the images that the regions are found in.
        settings: that the regions depend on.
        regions_of: gives the regions of a case, uint16; with several workers something that can be pickled.
        root: folder of the regions.
        progress: show a progress bar.
        num_workers: processes that compute, a case each; -1 for one per core.

    Returns:
        the store, keyed by image and settings.
    """
    root = Path(root).expanduser().absolute()
    found = {case: array_key(key, settings) for case, key in keys.items()}
    missing = {case: path for case, key in found.items() if not is_complete(path := array_path(root, key))}
    computed = compute_cases(partial(_compute, regions_of), missing, num_workers)
    for _ in show_progress(computed, "regions", "case", total=len(missing), enabled=progress):
        pass
    return RegionStore(root, found)


def _slice_regions(slices: SliceStore, how: Mapping[str, Any], case: str) -> np.ndarray:
    return np.stack([region_hierarchy(image, **how) for image in slices[case]])


def _volume_regions(
    volumes: VolumeStore, depths: Sequence[float], smoothings: Sequence[float], case: str
) -> np.ndarray:
    levels = watershed_hierarchy(volumes[case].astype(np.float32), depths, smoothings)
    if levels.max() > np.iinfo(np.uint16).max:
        raise ValueError(f"case {case!r} has {levels.max() + 1} regions, more than 65536; raise the depths.")
    return levels.astype(np.uint16)


def _compute(regions_of: Callable[[str], np.ndarray], case: str, path: Path) -> None:
    save_array(regions_of(case), path)


class ReadRegionsd(Transform):
    """Add the regions of a slice to its item, as integers (levels, H, W).

    Args:
        store: the regions.
        output_key: where they go.
    """

    def __init__(self, store: RegionStore, output_key: str = "label") -> None:
        self.store = store
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Extend a copy of an item with "case" and "slice"."""
        regions = self.store[data["case"]][data["slice"]]
        return {**data, self.output_key: torch.from_numpy(regions.astype(np.int32))}
