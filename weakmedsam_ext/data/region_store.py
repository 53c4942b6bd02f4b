"""Regions of slices at several scales, found without any label, as targets of promptable pre-training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from skimage.segmentation import felzenszwalb
from tqdm import tqdm

from .io import atomic_path
from .slice_store import SliceStore

__all__ = ["ReadRegionsd", "RegionStore", "build_region_store", "region_hierarchy"]

FORMAT = 1  # part of every key: raise it when the same settings give other regions


def region_hierarchy(
    image: np.ndarray, scales: Sequence[float] = (30, 100, 300), min_size: float = 0.002
) -> np.ndarray:
    """Regions of a slice by graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004), fine to coarse.

    Args:
        image: (H, W) in 0..1.
        scales: of the segmentation; larger values give larger regions.
        min_size: smallest region at the finest scale as a part of the image; it grows with the scale.

    Returns:
        region numbers, uint16 (scales, H, W).
    """
    pixels = [max(1, round(min_size * image.size * scale / scales[0])) for scale in scales]
    maps = [
        felzenszwalb(np.asarray(image, dtype=np.float32), scale=scale, sigma=0.8, min_size=size)
        for scale, size in zip(scales, pixels, strict=True)
    ]
    return np.stack(maps).astype(np.uint16)


@dataclass(frozen=True)
class RegionStore:
    """Regions of many volumes on disk, uint16, made by `build_region_store`.

    Args:
        root: folder of the memory-mapped arrays.
        keys: case -> key of its array.
    """

    root: Path
    keys: Mapping[str, str]

    def __getitem__(self, case: str) -> np.ndarray:
        """Memory-mapped regions (Z, scales, H, W) of a case."""
        if case not in self.keys:
            raise KeyError(f"case {case!r} is not in the region store {self.root}; build the store with it.")
        return np.load(self.root / f"{self.keys[case]}.npy", mmap_mode="r", allow_pickle=False)


def build_region_store(
    slices: SliceStore,
    root: str | Path,
    scales: Sequence[float] = (30, 100, 300),
    min_size: float = 0.002,
    progress: bool = True,
) -> RegionStore:
    """Find the regions of all slices of a store, case by case; what is there already is not computed again.

    Args:
        slices: the slices.
        root: folder of the regions.
        scales: see `region_hierarchy`.
        min_size: see `region_hierarchy`.
        progress: show a progress bar.

    Returns:
        the store.

    Raises:
        ValueError: when scales are missing or not positive.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales: expected positive numbers, but got {tuple(scales)}.")
    root = Path(root).expanduser().absolute()
    settings = json.dumps([FORMAT, [float(scale) for scale in scales], min_size])
    keys = {case: hashlib.sha256((key + settings).encode()).hexdigest()[:32] for case, key in slices.keys.items()}
    for case in tqdm(slices.cases, desc="regions", unit="case", disable=not progress):
        path = root / f"{keys[case]}.npy"
        if not path.exists():
            regions = np.stack([region_hierarchy(image, scales, min_size) for image in slices[case]])
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.save(file, regions, allow_pickle=False)
    return RegionStore(root, keys)


class ReadRegionsd(Transform):
    """Add the regions of a slice to its item, as integers (scales, H, W).

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
