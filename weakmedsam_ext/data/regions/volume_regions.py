"""Regions of whole volumes, and a data set of both, for promptable pre-training in three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset

from ..volume_store import VolumeStore
from .store import RegionStore, store_regions
from .watershed_hierarchy import watershed_hierarchy

__all__ = ["VolumeRegionDataset", "build_volume_regions"]

DEPTHS, SMOOTHINGS = (0.01, 0.02), (0.7, 1.0, 1.4)
FORMAT = 3  # part of every key: raise it when the same settings give other regions


def build_volume_regions(
    volumes: VolumeStore,
    root: str | Path,
    depths: Sequence[float] = DEPTHS,
    progress: bool = True,
    smoothings: Sequence[float] = SMOOTHINGS,
) -> RegionStore:
    """Find the regions of all volumes of a store, case by case; what is there already is not computed again.

    Args:
        volumes: the volumes.
        root: folder of the regions.
        depths: of the basins of the gradient magnitude, ascending; see `watershed_hierarchy`. The defaults suit
            cardiac MRI with voxels of 2.5 mm.
        progress: show a progress bar.
        smoothings: see `watershed_hierarchy`.

    Returns:
        the store; a case is uint16 (levels, D, H, W).

    Raises:
        ValueError: when a setting is wrong, or a volume has more regions than 16 bits can number.
    """
    depths, smoothings = ([float(one) for one in values] for values in (depths, smoothings))

    def regions_of(case: str) -> np.ndarray:
        levels = watershed_hierarchy(volumes[case].astype(np.float32), depths, smoothings)
        if levels.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"case {case!r} has {levels.max() + 1} regions, more than 65536; raise the depths.")
        return levels.astype(np.uint16)

    return store_regions(volumes.keys, ["volume", FORMAT, depths, smoothings], regions_of, root, progress)


class VolumeRegionDataset(Dataset):
    """Whole volumes with their regions: {"image" float32 (1, D, H, W), "label" int32 (L, D, H, W), "case"}.

    A volume is read when it is asked for. Patches are cut by MONAI's transforms; where `SpatialPadd` extends the label,
    let it write -1, which is never clicked.

    Args:
        volumes: the volumes.
        regions: of the same cases.
        cases: names, or items with "case"; every case of the store without.
        transform: applied to every item, for example `SpatialPadd` and `RandSpatialCropd`.

    Raises:
        ValueError: when there is no case, or one is not in the stores.
    """

    def __init__(
        self,
        volumes: VolumeStore,
        regions: RegionStore,
        cases: Sequence[Any] | None = None,
        transform: Callable | Sequence[Callable] | None = None,
    ) -> None:
        names = volumes.cases if cases is None else [case if isinstance(case, str) else case["case"] for case in cases]
        missing = [name for name in names if name not in volumes or name not in regions]
        if missing or not names:
            raise ValueError(f"cases: expected at least one, all in both stores, but {missing} are not; build them.")
        self.volumes = volumes
        self.regions = regions
        super().__init__([{"case": name} for name in names], transform)

    def _transform(self, index: int) -> Any:
        case = self.data[index]["case"]
        image = self.volumes.image(case)
        label = torch.from_numpy(self.regions[case].astype(np.int32))
        return self.transform({"image": image, "label": label, "case": case})
