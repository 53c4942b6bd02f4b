"""Base of the stores of slices, volumes and regions: one memory-mapped array per case."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.transforms import ScaleIntensityRange
from torch import Tensor
from tqdm import tqdm

from .hashes import HashCache
from .io import Volume, atomic_path

__all__ = [
    "HASHES_FILE",
    "ArrayStore",
    "array_key",
    "array_path",
    "check_percentiles",
    "is_complete",
    "keyed_volumes",
    "save_array",
    "scale_percentiles",
]

logger = logging.getLogger(__name__)

HASHES_FILE = "hashes.json"  # of a store: hashes of the volumes that it was made from


@dataclass(frozen=True)
class ArrayStore:
    """Arrays of many cases on disk, read on demand; no file stays open.

    Args:
        root: folder of the memory-mapped arrays.
        keys: case -> key of its array.
    """

    kind: ClassVar[str]

    root: Path
    keys: Mapping[str, str]

    @property
    def cases(self) -> list[str]:
        """Names of the cases."""
        return list(self.keys)

    def __contains__(self, case: object) -> bool:
        return case in self.keys

    def __getitem__(self, case: str) -> np.ndarray:
        """Memory-mapped array of a case."""
        if case not in self.keys:
            raise KeyError(f"case {case!r} is not in the {self.kind} store {self.root}; build the store with it.")
        return _mapped(array_path(self.root, self.keys[case]))

    def image(self, case: str, index: int | None = None) -> Tensor:
        """A case, or its slice `index`, as a float32 image with one channel."""
        array = self[case] if index is None else self[case][index]
        return torch.from_numpy(array.astype(np.float32)).unsqueeze(0)


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def array_key(source: str, settings: Sequence[Any]) -> str:
    """Key of an array: a hash of its source and of its settings.

    Args:
        source: `content_hash` of a file, or key of another store's array.
        settings: whatever else the array depends on, as JSON can hold it.
    """
    return hashlib.sha256(json.dumps([source, *settings]).encode()).hexdigest()[:32]


def array_path(root: Path, key: str) -> Path:
    """Path of an array's file."""
    return root / f"{key}.npy"


def save_array(array: np.ndarray, path: Path) -> None:
    """Write an array, complete or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def is_complete(path: Path) -> bool:
    """Check that an array exists and is as long as its header says; log a damaged one, which must be made again."""
    try:
        _mapped(path)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        logger.warning("%s is damaged (%s) and is made again.", path, error)
        return False
    return True


def keyed_volumes(
    cases: Sequence[Mapping[str, str]], root: Path, settings: Sequence[Any], description: str, progress: bool
) -> Iterator[tuple[str, Path, str]]:
    """Iterate over the volumes of a store with the keys of their arrays.

    Args:
        cases: items with "case" and "image" (path of the volume).
        root: folder of the store.
        settings: that the arrays depend on, as JSON can hold them.
        description: of the progress bar.
        progress: show it.

    Returns:
        case, image and key of every volume.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no case or one twice.
    """
    images = {item["case"]: Path(item["image"]) for item in cases}
    if not images or len(images) != len(cases):
        raise ValueError(f"cases: expected at least one, each once, but got {len(cases)} items of {len(images)} cases.")
    hashes = HashCache(root / HASHES_FILE)
    for case, path in tqdm(images.items(), desc=description, unit="case", disable=not progress):
        yield case, path, array_key(hashes(path), settings)


def check_percentiles(percentiles: tuple[float, float]) -> None:
    """Check that two percentiles are a range.

    Raises:
        ValueError: unless 0 <= lower < upper <= 100.
    """
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"percentiles: expected 0 <= lower < upper <= 100, but got {tuple(percentiles)}.")


def scale_percentiles(volume: Volume, percentiles: tuple[float, float]) -> np.ndarray:
    """Scale a volume so that two percentiles of its intensities become 0 and 1, and clip what lies outside.

    Raises:
        ValueError: when the intensities do not vary.
    """
    lower, upper = np.percentile(volume.array, percentiles)
    if lower == upper:
        raise ValueError(
            f"{volume.path}: the percentiles {tuple(percentiles)} of its intensities are both {lower:g}; "
            "leave the volume out, or widen the percentiles."
        )
    return ScaleIntensityRange(float(lower), float(upper), 0.0, 1.0, clip=True)(volume.array)
