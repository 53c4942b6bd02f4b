"""Regions of slices on disk, as targets of promptable pre-training."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from tqdm import tqdm

from ..array_store import ArrayStore, array_key, array_path, is_complete, save_array
from ..slices.store import SliceStore
from .image_regions import check_region_settings, region_hierarchy

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
        num_workers: processes that find them, a case each; -1 for one per core.

    Returns:
        the store.

    Raises:
        ValueError: when a setting is wrong, see `check_region_settings`.
    """
    settings = [FORMAT, method, *check_region_settings(scales, min_size, method, smoothings), min_size]
    how = {"scales": scales, "min_size": min_size, "method": method, "smoothings": smoothings}
    regions_of = partial(_slice_regions, slices, how)
    return store_regions(slices.keys, settings, regions_of, root, progress, num_workers)


def store_regions(
    keys: Mapping[str, str],
    settings: Sequence[Any],
    regions_of: Callable[[str], np.ndarray],
    root: str | Path,
    progress: bool,
    num_workers: int = 1,
) -> RegionStore:
    """Compute what the folder does not hold yet, case by case.

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
    computed = _computed(partial(_compute, regions_of), missing, num_workers)
    for _ in tqdm(computed, desc="regions", unit="case", total=len(missing), disable=not progress or not missing):
        pass
    return RegionStore(root, found)


def _slice_regions(slices: SliceStore, how: Mapping[str, Any], case: str) -> np.ndarray:
    return np.stack([region_hierarchy(image, **how) for image in slices[case]])


def _compute(regions_of: Callable[[str], np.ndarray], case: str, path: Path) -> None:
    save_array(regions_of(case), path)


def _computed(compute: Callable[[str, Path], None], missing: Mapping[str, Path], num_workers: int) -> Iterator[str]:
    """Call the function with every case and its file; gives the cases as they are finished."""
    if num_workers == -1:
        # from Python 3.13 on, the cores that this process may use
        num_workers = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    num_workers = min(len(missing), num_workers)
    if num_workers <= 1:
        for case, path in missing.items():
            compute(case, path)
            yield case
        return
    # children of a process that may hold threads and a GPU start afresh
    with ProcessPoolExecutor(num_workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            running = {pool.submit(compute, case, path): case for case, path in missing.items()}
            for done in as_completed(running):
                done.result()
                yield running[done]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """Let this worker end when its parent is killed; it would wait for work for ever."""
    parent = parent_process()
    assert parent is not None  # a worker has one

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


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
