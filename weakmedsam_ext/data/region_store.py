"""Regions of slices on disk, as targets of promptable pre-training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from tqdm import tqdm

from .array_store import ArrayStore, array_path, save_array
from .region_hierarchy import check_region_settings, region_hierarchy
from .slice_store import SliceStore

__all__ = ["ReadRegionsd", "RegionStore", "build_region_store", "store_regions"]

FORMAT = 3  # part of every key: raise it when the same settings give other regions


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

    Returns:
        the store.

    Raises:
        ValueError: when a setting is wrong, see `check_region_settings`.
    """
    settings = [FORMAT, method, *check_region_settings(scales, min_size, method, smoothings), min_size]

    def regions_of(case: str) -> np.ndarray:
        return np.stack([region_hierarchy(image, scales, min_size, method, smoothings) for image in slices[case]])

    return store_regions(slices.keys, settings, regions_of, root, progress)


def store_regions(
    keys: Mapping[str, str],
    settings: Sequence[Any],
    regions_of: Callable[[str], np.ndarray],
    root: str | Path,
    progress: bool,
) -> RegionStore:
    """Compute what the folder does not hold yet, case by case.

    Args:
        keys: case -> key of the images that the regions are found in.
        settings: that the regions depend on.
        regions_of: gives the regions of a case, uint16.
        root: folder of the regions.
        progress: show a progress bar.

    Returns:
        the store, keyed by image and settings.
    """
    root = Path(root).expanduser().absolute()
    suffix = json.dumps(settings)
    found = {case: hashlib.sha256((key + suffix).encode()).hexdigest()[:32] for case, key in keys.items()}
    for case in tqdm(found, desc="regions", unit="case", disable=not progress):
        path = array_path(root, found[case])
        if not path.exists():
            save_array(regions_of(case), path)
    return RegionStore(root, found)


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
