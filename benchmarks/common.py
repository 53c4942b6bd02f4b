"""What every benchmark needs: repeated timing, a table on the screen and as CSV, the machine it ran on."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["best_time", "dice", "machine", "report", "seconds", "synchronize"]


def best_time(function: Callable[[], Any], repeats: int, device: str = "cpu") -> float:
    """Shortest wall-clock time of a call in seconds, after one call that is not counted."""
    function()
    return min(seconds(function, device) for _ in range(repeats))


def dice(found: Tensor, wanted: Tensor) -> float:
    """Dice of two masks, bool of one shape; 0 when both are empty."""
    return float(2 * (found & wanted).sum() / (found.sum() + wanted.sum()).clamp(min=1))


def seconds(function: Callable[[], Any], device: str = "cpu") -> float:
    """Wall-clock time of one call."""
    synchronize(device)
    start = time.perf_counter()
    function()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: str) -> None:
    """Wait for a CUDA device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def machine() -> dict[str, str]:
    """Commit, versions and kind of machine, for the CSV."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True
        ).stdout
    except OSError:  # no git
        commit = ""
    models = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "commit": commit.strip() or "unknown",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{(models or [platform.machine()])[0]}, {os.cpu_count()} cores, {gpu}",
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def report(rows: Sequence[dict[str, Any]], csv_path: str | None = None) -> None:
    """Print rows as a table; with a path, write them as CSV together with the machine."""
    names = list(rows[0])
    cells = [names, *([f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    if csv_path:
        with open(csv_path, "w", newline="") as file:
            writer = csv.DictWriter(file, [*names, *machine()], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, **machine()} for row in rows)
