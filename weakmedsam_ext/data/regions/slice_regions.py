"""Slices with their regions, for promptable pre-training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import Dataset

from ..datasets.decathlon import named_images
from ..slices.store import build_slice_store
from .store import ReadRegionsd, build_region_store

__all__ = ["SliceRegions"]


class SliceRegions(Dataset):
    """Slices of volumes and the regions in them, found without any label: {"case", "slice", "image", "label"}.

    "image" is float32 (1, H, W) in 0..1, "label" are the region numbers, int32 (L, H, W). Both are computed once, when
    the data set is made, and kept on disk. Nothing but the "image" of an item is opened, even if it names a mask.

    Args:
        data: volumes, items with "image" (path) and optionally "case" (the file's name without).
        root: gets slices/ and regions/; what is there already is not computed again.
        img_size: pixels along each side of a slice.
        scales: see `region_hierarchy`.
        method: see `region_hierarchy`.
        smoothings: see `region_hierarchy`.
        transform: applied to every item, for example random augmentation.
        progress: show a progress bar.
        num_workers: see `build_region_store`.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no volume or one twice, a volume is damaged, or a setting is wrong.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        img_size: int = 256,
        scales: Sequence[float] | None = None,
        method: str = "felzenszwalb",
        smoothings: Sequence[float] | None = None,
        transform: Callable | Sequence[Callable] | None = None,
        progress: bool = True,
        num_workers: int = 1,
    ) -> None:
        cases = named_images(data)
        self.store = build_slice_store(cases, Path(root) / "slices", img_size, progress=progress)
        self.regions = build_region_store(
            self.store,
            Path(root) / "regions",
            scales,
            progress=progress,
            method=method,
            smoothings=smoothings,
            num_workers=num_workers,
        )
        self.read_regions = ReadRegionsd(self.regions)
        slices = [
            {"case": case, "slice": index}
            for case in self.store.cases
            for index in range(self.store.geometry(case).num_slices)
        ]
        super().__init__(slices, transform)

    def _transform(self, index: int) -> Any:
        item = self.read_regions(self.data[index])
        return self.transform({**item, "image": self.store.image(item["case"], item["slice"])})
