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
from monai.utils import ensure_tuple
from torch import Tensor

from .hashes import HashCache, content_hash
from .io import atomic_path, file_hash
from .progress import show_progress

__all__ = [
    "HASHES_FILE",
    "ArrayStore",
    "array_key",
    "array_path",
    "is_complete",
    "keyed_volumes",
    "save_array",
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
        """A case, or its slice `index`, as a float32 image, channels first."""
        array = self[case] if index is None else self[case][index]
        image = torch.from_numpy(array.astype(np.float32))
        return image if index is not None and image.ndim == 3 else image.unsqueeze(0)


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
        file.flush()
        # the checksum comes first: an array without it would count as one of an earlier version
        with atomic_path(checksum_path(path)) as checksum:
            checksum.write_text(file_hash(temporary), encoding="ascii")


def checksum_path(path: Path) -> Path:
    """File with the hash of an array's file."""
    return path.with_suffix(".sha256")


def is_complete(path: Path) -> bool:
    """Check that an array is there as it was written; log a damaged one, which must be made again.

    A file system that lost power leaves files that are empty, too short, or whole blocks of zeros; so a checksum of the
    content stands beside each array. An array without one, of an earlier version, is told by its length alone.
    """
    try:
        _mapped(path)
        checksum = checksum_path(path)
        if checksum.exists() and checksum.read_text(encoding="ascii").strip() != content_hash(path):
            raise ValueError("its content has changed")
    except FileNotFoundError:
        return False
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        logger.warning("%s is damaged (%s) and is made again.", path, reason)
        return False
    return True


def keyed_volumes(
    cases: Sequence[Mapping[str, Any]], root: Path, settings: Sequence[Any], description: str, progress: bool
) -> Iterator[tuple[str, list[Path], str]]:
    """Iterate over the cases of a store with the keys of their arrays.

    Args:
        cases: items with "case" and "image" (path of the volume, or paths of its channels).
        root: folder of the store.
        settings: that the arrays depend on, as JSON can hold them.
        description: of the progress bar.
        progress: show it.

    Returns:
        case, images and key of every case.

    Raises:
        FileNotFoundError: when a volume is missing.
        ValueError: when there is no case or one twice.
    """
    images = {item["case"]: list(map(Path, ensure_tuple(item["image"]))) for item in cases}
    if not images or len(images) != len(cases):
        raise ValueError(f"cases: expected at least one, each once, but got {len(cases)} items of {len(images)} cases.")
    hashes = HashCache(root / HASHES_FILE)
    for case, paths in show_progress(images.items(), description, "case", enabled=progress):
        yield case, paths, array_key(" ".join(map(hashes, paths)), settings)
