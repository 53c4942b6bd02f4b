"""What a stage takes: time, memory and disk, and with what it ran."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import

from .. import __version__

__all__ = ["StageUsage", "peak_memory"]

# whose versions can change numbers
PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scikit-image", "scipy")
MEGABYTE = 1 << 20
resource, _has_resource = optional_import("resource")  # not on Windows


class StageUsage:
    """Measure a stage from the moment that this is made.

    Memory is the peak of this process, without worker processes. Where the system cannot reset its record (other than
    Linux), it includes the stages before, in the same program.

    Args:
        folder: that the stage writes to, for the disk it takes.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._started = datetime.now(timezone.utc)
        self._start = time.monotonic()
        self._size = _size(self.folder)
        _reset_peak()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def record(self) -> dict[str, Any]:
        """Start (UTC), time, memory, disk, device and versions, as JSON holds them; None for what nobody can tell."""
        gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "memory_mb": peak_memory(),
            "gpu_memory_mb": round(torch.cuda.max_memory_allocated() / MEGABYTE) if gpu else None,
            "disk_mb": round((_size(self.folder) - self._size) / MEGABYTE, 1),
            "processor": torch.cuda.get_device_name()
            if gpu
            else f"{platform.machine()}, {torch.get_num_threads()} threads",
            "versions": {
                "weakmedsam_ext": __version__,
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in PACKAGES},
            },
        }


def peak_memory() -> int | None:
    """Largest memory of this process so far, or since a `StageUsage` was made, in MB; None where it is unknown."""
    if not _has_resource:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (MEGABYTE if platform.system() == "Darwin" else 1024))


def _reset_peak() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: start the record of this process anew
    except OSError:
        pass


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
