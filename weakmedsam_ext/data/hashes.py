"""Hashes of files, computed again only when a file has changed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from .io import file_hash, read_json, write_json
from .volume_formats import visible_files

__all__ = ["HashCache", "content_hash"]

# A file that was written this short a time ago may be written again without a new modification time.
SETTLED_NS = 2_000_000_000


class HashCache:
    """SHA-256 of files by absolute path, size and modification time; remembered in memory and, if wanted, on disk.

    A file that was modified less than two seconds ago is hashed every time. A cache file that is missing, damaged or
    not writable costs time only.

    Args:
        path: JSON file that keeps the hashes between runs; without, they are remembered by this object only.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._known = self._read()

    def __call__(self, path: str | Path) -> str:
        """Hash a file or a folder that is one image, see `content_hash`."""
        name = os.path.abspath(path)
        state, newest = _state(Path(name))
        known = self._known.get(name)
        if known is not None and known[:3] == state:
            return str(known[3])
        # the state from before the file is read: what is written meanwhile is noticed next time
        digest = _MEMORY(name) if self is not _MEMORY else file_hash(path)
        if state is not None and time.time_ns() - newest >= SETTLED_NS:
            self._known[name] = [*state, digest]
            self._write()
        return digest

    def _read(self) -> dict[str, list]:
        try:
            content = read_json(self.path, "delete it") if self.path else {}
        except (OSError, ValueError):
            return {}
        return {name: entry for name, entry in content.items() if isinstance(entry, list) and len(entry) == 4}

    def _write(self) -> None:
        if self.path is None:
            return
        try:
            # another process may have added hashes meanwhile
            write_json({**self._read(), **self._known}, self.path)
        except OSError:
            pass


def _state(path: Path) -> tuple[list | None, int]:
    """What changes with a file, or with the files of a folder, and the last modification in nanoseconds."""
    files = visible_files(path) if path.is_dir() else [path] if path.is_file() else []
    stats = [os.stat(file) for file in files]
    states = [[stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns] for stat in stats]
    newest = max((stat.st_mtime_ns for stat in stats), default=0)
    if not files or not path.is_dir():
        return (states[0] if files else None), newest
    # one entry a folder: a series has hundreds of files
    named = json.dumps([[file.name, *state] for file, state in zip(files, states, strict=True)])
    return [sum(stat.st_size for stat in stats), newest, hashlib.sha256(named.encode()).hexdigest()[:32]], newest


_MEMORY = HashCache()


def content_hash(path: str | Path) -> str:
    """SHA-256 of a file as 32 hexadecimal digits; within a process, an unchanged file is read once.

    The hash of a folder is that of the names and hashes of its files.

    Raises:
        FileNotFoundError: when there is no such file, or no file in the folder.
    """
    return _MEMORY(path)
