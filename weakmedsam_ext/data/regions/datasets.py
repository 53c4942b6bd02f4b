"""Data sets for promptable training: slices or volumes with regions found without labels, or with drawn structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset

from ..array_store import ArrayStore
from ..datasets.decathlon import named_images
from ..io import Volume, load_case_mask
from ..reference_labels import class_numbers
from ..slices.store import SliceStore, build_slice_store
from ..volume_store import VolumeStore, build_volume_store
from .image_regions import num_region_levels
from .store import DEPTHS, SMOOTHINGS, RegionStore, build_region_store, build_volume_regions
from .watershed_hierarchy import check_watershed_settings

__all__ = ["SliceMasks", "SliceRegions", "VolumeMasks", "VolumeRegionDataset", "VolumeRegions"]

Structures = Mapping[str, int | Sequence[int]]
Transforms = Callable | Sequence[Callable] | None


class _StoredImages(Dataset):
    """Images of a store with labels: {"case", "slice" of slices, "image" float32 (1, ...), "label" int32 (L, ...)}.

    Args:
        images: slices or volumes.
        find_labels: gives case -> labels (L, D, H, W), or (Z, L, H, W) of slices; called once.
        items: "case" and, of slices, "slice".
        transform: applied to every item.
    """

    def __init__(
        self,
        images: ArrayStore,
        find_labels: Callable[[], Any],
        items: Sequence[Mapping[str, Any]],
        transform: Transforms,
    ) -> None:
        self.images = images
        self.find_labels = find_labels
        super().__init__(items, transform)

    @cached_property
    def labels(self) -> Any:
        """Case -> labels; finding them may take long, and processes of its own."""
        return self.find_labels()

    def prepare_items(self) -> None:
        """Find the labels of all items now; the first item does it otherwise.

        Our trainers and evaluators call it when they run. Call it before a `DataLoader` with workers of its own: each
        of them would find all regions otherwise.
        """
        _ = self.labels

    def _transform(self, index: int) -> Any:
        item = dict(self.data[index])
        labels, number = self.labels[item["case"]], item.get("slice")
        item["image"] = self.images.image(item["case"], number)
        item["label"] = torch.from_numpy((labels if number is None else labels[number]).astype(np.int32))
        return self.transform(item)


class SliceRegions(_StoredImages):
    """Slices of volumes with regions found without any label: {"case", "slice", "image", "label"}.

    "image" is float32 (1, H, W) in 0..1, "label" are the region numbers, int32 (L, H, W). Both are computed once and
    kept on disk: slices when the data set is made, regions when it is first used, see `prepare_items`. Nothing but the
    "image" of an item is opened, even if it names a mask.

    Args:
        data: volumes, items with "image" (path) and optionally "case" (the file's name without).
        root: gets slices/ and regions/; what is there already is not computed again.
        img_size: pixels along each side of a slice.
        scales: see `region_hierarchy`.
        method: see `region_hierarchy`.
        smoothings: see `region_hierarchy`.
        transform: applied to every item, for example random augmentation.
        progress: show a progress bar.
        num_workers: processes that find regions, see `build_region_store`.
        axis: anatomical direction of the slices, see `build_slice_store`.
        window: see `build_slice_store`.
        foreground: see `build_slice_store`.

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
        transform: Transforms = None,
        progress: bool = True,
        num_workers: int = 1,
        axis: str = "axial",
        window: Sequence[float] | None = None,
        foreground: bool = False,
    ) -> None:
        self.num_levels = num_region_levels(scales, method, smoothings)
        look: dict[str, Any] = {"axis": axis, "window": window, "foreground": foreground, "progress": progress}
        slices = build_slice_store(named_images(data), Path(root) / "slices", img_size, **look)
        how: dict[str, Any] = {"method": method, "smoothings": smoothings, "num_workers": num_workers}
        regions = partial(build_region_store, slices, Path(root) / "regions", scales, progress=progress, **how)
        items = [
            {"case": case, "slice": index} for case in slices.cases for index in range(slices.geometry(case).num_slices)
        ]
        super().__init__(slices, regions, items, transform)


class VolumeRegionDataset(_StoredImages):
    """Whole volumes with their regions: {"case", "image" float32 (1, D, H, W), "label" int32 (L, D, H, W)}.

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
        transform: Transforms = None,
    ) -> None:
        names = volumes.cases if cases is None else [case if isinstance(case, str) else case["case"] for case in cases]
        missing = [name for name in names if name not in volumes or name not in regions]
        if missing or not names:
            raise ValueError(f"cases: expected at least one, all in both stores, but {missing} are not; build them.")
        super().__init__(volumes, partial(_same, regions), [{"case": name} for name in names], transform)


class VolumeRegions(_StoredImages):
    """`VolumeRegionDataset` of volume files; both stores are kept on disk.

    Volumes are stored when the data set is made, regions are found when it is first used, see `prepare_items`. Nothing
    but the "image" of an item is opened, even if it names a mask.

    Args:
        data: see `SliceRegions`.
        root: gets volumes/ and regions/; what is there already is not computed again.
        spacing: see `build_volume_store`.
        depths: see `build_volume_regions`.
        smoothings: see `build_volume_regions`.
        samples_per_volume: how often a volume is in the data set, for random patches of it.
        transform: see `VolumeRegionDataset`.
        progress: show a progress bar.
        num_workers: processes that find regions, see `build_volume_regions`.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no volume or one twice, a volume is damaged, or a setting is wrong.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        spacing: float | Sequence[float] = 2.0,
        depths: Sequence[float] = DEPTHS,
        smoothings: Sequence[float] = SMOOTHINGS,
        samples_per_volume: int = 1,
        transform: Transforms = None,
        progress: bool = True,
        num_workers: int = 1,
    ) -> None:
        _check_samples(samples_per_volume)
        check_watershed_settings(depths, smoothings)
        self.num_levels = len(depths) * len(smoothings)
        volumes = build_volume_store(named_images(data), Path(root) / "volumes", spacing, progress=progress)
        where = Path(root) / "regions"
        regions = partial(build_volume_regions, volumes, where, depths, progress, smoothings, num_workers)
        items = [{"case": case} for case in volumes.cases]
        super().__init__(volumes, regions, items * samples_per_volume, transform)


class SliceMasks(_StoredImages):
    """Slices that show some of the given structures: {"case", "slice", "image", "label"}.

    "image" is float32 (1, H, W) in 0..1, "label" int32 (1, H, W), k + 1 for structure k; `MaskRegionsd` makes regions
    of it. All other label values become background. The masks stay in memory.

    Args:
        data: volumes, items with "image" and "label" (paths), and optionally "case" (the image's name without).
        root: gets slices/.
        structures: name -> value or values in the masks.
        img_size: pixels along each side of a slice.
        transform: applied to every item.
        progress: show a progress bar.
        axis: anatomical direction of the slices, see `build_slice_store`.
        window: see `build_slice_store`.
        foreground: see `build_slice_store`.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when there are no volumes or structures, a volume has no mask, a file is damaged, or no slice shows
            a structure.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        structures: Structures,
        img_size: int = 256,
        transform: Transforms = None,
        progress: bool = True,
        axis: str = "axial",
        window: Sequence[float] | None = None,
        foreground: bool = False,
    ) -> None:
        look: dict[str, Any] = {"axis": axis, "window": window, "foreground": foreground, "progress": progress}
        cases = _labelled(data, structures)
        slices = build_slice_store(cases, Path(root) / "slices", img_size, **look)
        masks = _masks(cases, structures, lambda case, mask: _on_slices(slices, case, mask))
        shown = [
            {"case": case, "slice": index}
            for case, mask in masks.items()
            for index in np.flatnonzero(mask.any((1, 2, 3))).tolist()
        ]
        super().__init__(slices, partial(_same, masks), _not_empty(shown, structures), transform)


class VolumeMasks(_StoredImages):
    """Whole volumes with the given structures: {"case", "image" float32 (1, D, H, W), "label" int32 (1, D, H, W)}.

    Args:
        data: see `SliceMasks`.
        root: gets volumes/.
        structures: see `SliceMasks`.
        spacing: see `build_volume_store`.
        samples_per_volume: how often a volume is in the data set, for random patches of it.
        transform: applied to every item.
        progress: show a progress bar.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when there are no volumes or structures, a volume has no mask, a file is damaged, or no volume shows
            a structure.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, str]],
        root: str | Path,
        structures: Structures,
        spacing: float | Sequence[float] = 2.0,
        samples_per_volume: int = 1,
        transform: Transforms = None,
        progress: bool = True,
    ) -> None:
        _check_samples(samples_per_volume)
        cases = _labelled(data, structures)
        volumes = build_volume_store(cases, Path(root) / "volumes", spacing, progress=progress)
        masks = _masks(cases, structures, lambda _, mask: volumes.preprocessing.mask(mask)[None])
        shown = [{"case": case} for case, mask in masks.items() if mask.any()]
        super().__init__(volumes, partial(_same, masks), _not_empty(shown, structures) * samples_per_volume, transform)


def _same(labels: Any) -> Any:
    """Labels that are there already; unlike a lambda, it can be sent to a loader's workers."""
    return labels


def _check_samples(samples_per_volume: int) -> None:
    if samples_per_volume < 1:
        raise ValueError(f"samples_per_volume: expected at least 1, but got {samples_per_volume}.")


def _labelled(data: Sequence[Mapping[str, str]], structures: Structures) -> list[dict[str, str]]:
    """Items with all of "case", "image" and "label"."""
    if not structures:
        raise ValueError("structures: expected at least one name and its label value, but got none; name what to use.")
    without = [item["image"] for item in data if "label" not in item]
    if without:
        raise ValueError(f"data: {without[0]} has no mask; leave the volume out.")
    return [{**named, "label": item["label"]} for named, item in zip(named_images(data), data, strict=True)]


def _masks(
    cases: Sequence[Mapping[str, str]], structures: Structures, on_grid: Callable[[str, Volume], np.ndarray]
) -> dict[str, np.ndarray]:
    """Case -> mask on the grid of its images, uint8, with k + 1 for structure k."""
    masks = {}
    for item in cases:
        mask = load_case_mask(item)
        numbers = Volume(mask.path, mask.shape, mask.affine, class_numbers(mask.array, structures))
        masks[item["case"]] = on_grid(item["case"], numbers).astype(np.uint8)
    return masks


def _on_slices(slices: SliceStore, case: str, mask: Volume) -> np.ndarray:
    return slices.geometry(case).to_network(mask.array, "nearest").unsqueeze(1).numpy()


def _not_empty(items: list[dict[str, Any]], structures: Structures) -> list[dict[str, Any]]:
    if not items:
        raise ValueError(f"structures: {list(structures)} occur in no mask; correct the label values.")
    return items
