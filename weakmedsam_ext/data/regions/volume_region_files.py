"""Volumes in files and the regions in them, for promptable pre-training in three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..datasets.decathlon import named_images
from ..volume_store import build_volume_store
from .volume_regions import DEPTHS, SMOOTHINGS, VolumeRegionDataset, build_volume_regions

__all__ = ["VolumeRegions"]


class VolumeRegions(VolumeRegionDataset):
    """`VolumeRegionDataset` of volumes in files: both stores are built when the data set is made, and kept on disk.

    Nothing but the "image" of an item is opened, even if it names a mask.

    Args:
        data: volumes, items with "image" (path) and optionally "case" (the file's name without).
        root: gets volumes/ and regions/; what is there already is not computed again.
        spacing: see `build_volume_store`.
        depths: see `build_volume_regions`.
        smoothings: see `build_volume_regions`.
        samples_per_volume: how often a volume is in the data set, for random patches of it.
        transform: see `VolumeRegionDataset`.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no volume or one twice, a volume is damaged, or a setting is wrong.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        spacing: float = 2.0,
        depths: Sequence[float] = DEPTHS,
        smoothings: Sequence[float] = SMOOTHINGS,
        samples_per_volume: int = 1,
        transform: Callable | Sequence[Callable] | None = None,
        progress: bool = True,
    ) -> None:
        if samples_per_volume < 1:
            raise ValueError(f"samples_per_volume: expected at least 1, but got {samples_per_volume}.")
        cases = named_images(data)
        volumes = build_volume_store(cases, Path(root) / "volumes", spacing, progress=progress)
        regions = build_volume_regions(volumes, Path(root) / "regions", depths, progress, smoothings)
        super().__init__(volumes, regions, volumes.cases * samples_per_volume, transform)
