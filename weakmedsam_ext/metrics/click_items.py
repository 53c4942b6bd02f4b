"""Items for the evaluation of clicks: slices, or patches of volumes, with the structures of real masks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..data import RegionStore, SliceStore, VolumeStore, load_case_mask

__all__ = ["SliceClickItems", "VolumeClickItems", "find_structures"]

ClassMap = Mapping[str, int | Sequence[int]]


def find_structures(mask: np.ndarray, class_map: ClassMap, min_size: int) -> tuple[list[str], Tensor]:
    """Connected structures of a label map, class by class; pixels or voxels of one structure share sides.

    Args:
        mask: label values (*spatial).
        class_map: class name -> value or values, for example {"whole tumour": [1, 2, 4]}.
        min_size: smaller structures are left out, in pixels or voxels.

    Returns:
        class names of Q structures, and the structures, bool (Q, *spatial).
    """
    names, found = [], []
    for name, values in class_map.items():
        pieces = ndimage.label(np.isin(mask, values))[0]
        sizes = np.bincount(pieces.ravel())
        for piece in np.flatnonzero(sizes >= min_size):
            if piece > 0:
                names.append(str(name))
                found.append(pieces == piece)
    return names, torch.from_numpy(np.stack(found) if found else np.zeros((0, *mask.shape), dtype=bool))


class SliceClickItems:
    """Slices with their structures; one case is in memory at a time.

    Gives {"case", "image" float32 (1, H, W) in 0..1, "classes" (Q names), "structures" bool (Q, H, W)} and, with a
    region store, "regions" int32 (L, H, W). The slices drawn from a case do not depend on the other cases.

    Args:
        slices: the slices.
        cases: items with "case", "image" and "label" (path of the real mask).
        class_map: class name -> value or values in the masks.
        regions: of the slices, for `SuperpixelAnswer`.
        min_size: smaller structures are left out, in pixels of the slices' grid.
        max_slices_per_case: drawn from those with a structure; all of them without.
        seed: of the drawing.

    Raises:
        ValueError: when there is no case or class, or a case has no mask.
    """

    def __init__(
        self,
        slices: SliceStore,
        cases: Sequence[Mapping[str, str]],
        class_map: ClassMap,
        regions: RegionStore | None = None,
        min_size: int = 40,
        max_slices_per_case: int | None = None,
        seed: int = 0,
    ) -> None:
        check_cases(cases, class_map)
        self.slices = slices
        self.cases = list(cases)
        self.class_map = dict(class_map)
        self.regions = regions
        self.min_size = min_size
        self.max_slices_per_case = max_slices_per_case
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for item in self.cases:
            mask = load_case_mask(item)
            maps = self.slices.geometry(item["case"]).to_network(mask.array, "nearest").numpy()
            found = {index: find_structures(plane, self.class_map, self.min_size) for index, plane in enumerate(maps)}
            for index in self._chosen(item["case"], [index for index, (names, _) in found.items() if names]):
                yield self._item(item["case"], index, *found[index])

    def _chosen(self, case: str, usable: list[int]) -> list[int]:
        if self.max_slices_per_case is None or len(usable) <= self.max_slices_per_case:
            return usable
        generator = np.random.default_rng([self.seed, zlib.crc32(case.encode())])
        return sorted(generator.choice(usable, self.max_slices_per_case, replace=False).tolist())

    def _item(self, case: str, index: int, classes: list[str], structures: Tensor) -> dict[str, Any]:
        image = self.slices.image(case, index)
        item = {"case": case, "image": image, "classes": classes, "structures": structures}
        if self.regions is not None:
            item["regions"] = torch.from_numpy(self.regions[case][index].astype(np.int32))
        return item


class VolumeClickItems:
    """Patches of volumes, one around every structure; one case is in memory at a time.

    A patch is centred on the box of its structure and moved into the volume; voxels outside the patch are neither
    answered nor counted. Gives {"case", "image" float32 (1, S, S, S) in 0..1,
    "classes" (one name), "structures" bool (1, S, S, S)} and, with a region store, "regions" int32 (L, S, S, S). Where
    the volume ends within a patch, the image is 0 and the regions are -1.

    Args:
        volumes: the volumes.
        cases: items with "case", "image" and "label" (path of the real mask).
        class_map: class name -> value or values in the masks.
        patch_size: S in voxels, the network's input size.
        regions: of the volumes, for `SuperpixelAnswer`.
        min_size: smaller structures are left out, in voxels of the store's grid.

    Raises:
        ValueError: when there is no case or class, or a case has no mask.
    """

    def __init__(
        self,
        volumes: VolumeStore,
        cases: Sequence[Mapping[str, str]],
        class_map: ClassMap,
        patch_size: int,
        regions: RegionStore | None = None,
        min_size: int = 200,
    ) -> None:
        check_cases(cases, class_map)
        self.volumes = volumes
        self.cases = list(cases)
        self.class_map = dict(class_map)
        self.patch_size = patch_size
        self.regions = regions
        self.min_size = min_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for item in self.cases:
            mask = load_case_mask(item)
            names, structures = find_structures(self.volumes.preprocessing.mask(mask), self.class_map, self.min_size)
            for name, structure in zip(names, structures, strict=True):
                yield self._item(item["case"], name, structure[None])

    def _item(self, case: str, name: str, structure: Tensor) -> dict[str, Any]:
        image = self.volumes.image(case)
        starts = _patch_starts(structure[0], self.patch_size)
        item = {"case": case, "classes": [name], "image": _patch(image, starts, self.patch_size, 0)}
        item["structures"] = _patch(structure, starts, self.patch_size, False)
        if self.regions is not None:
            regions = torch.from_numpy(self.regions[case].astype(np.int32))
            item["regions"] = _patch(regions, starts, self.patch_size, -1)
        return item


def _patch_starts(structure: Tensor, size: int) -> list[int]:
    """First voxel of the patch along each axis; negative where the volume is smaller than the patch."""
    starts = []
    for axis, length in enumerate(structure.shape):
        seen = structure.movedim(axis, 0).flatten(1).any(1).nonzero()
        wanted = int(seen.min() + seen.max() + 1 - size) // 2
        starts.append(min(max(wanted, 0), length - size) if length >= size else (length - size) // 2)
    return starts


def _patch(array: Tensor, starts: Sequence[int], size: int, value: float) -> Tensor:
    """Cut (C, D, H, W) to (C, S, S, S), padded with a value."""
    patch = array.new_full((len(array), size, size, size), value)
    ends = [min(start + size, length) for start, length in zip(starts, array.shape[1:], strict=True)]
    source = tuple(slice(max(start, 0), end) for start, end in zip(starts, ends, strict=True))
    target = tuple(slice(max(start, 0) - start, end - start) for start, end in zip(starts, ends, strict=True))
    patch[(slice(None), *target)] = array[(slice(None), *source)]
    return patch


def check_cases(cases: Sequence[Mapping[str, str]], class_map: ClassMap) -> None:
    """Check what is to be clicked before anything is read.

    Raises:
        ValueError: when there is no case or class, or a case has no mask.
    """
    if not cases or not class_map:
        raise ValueError(f"expected at least one case and one class, but got {len(cases)} and {len(class_map)}.")
    unlabelled = [item["case"] for item in cases if "label" not in item]
    if unlabelled:
        raise ValueError(f"cases: {unlabelled[0]!r} has no mask to score against; leave it out.")
