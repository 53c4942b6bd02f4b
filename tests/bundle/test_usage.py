from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from weakmedsam_ext.bundle.usage import StageUsage


def test_a_stage_is_measured(tmp_path):
    (tmp_path / "before").write_bytes(bytes(3 << 20))
    usage = StageUsage(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "output").write_bytes(bytes(2 << 20))
    record = usage.record()
    assert 0 <= record["seconds"] < 60 and record["disk_mb"] == 2.0
    assert record["versions"]["torch"] == torch.__version__ and record["processor"]


def test_memory_is_that_of_the_stage_alone(tmp_path):
    if not _system_resets_its_record():
        pytest.skip("this system keeps the largest memory of a process for its whole life")
    size = 150 << 20
    # pages of its own, which go back to the system: an array may lie in memory that earlier tests left to the process
    large = mmap.mmap(-1, size)
    large.write(b"\1" * size)
    before = StageUsage(tmp_path).record()["memory_mb"]
    large.close()
    assert StageUsage(tmp_path).record()["memory_mb"] < before - 100


def _system_resets_its_record() -> bool:
    """Whether the system's own figures of this process say that a peak of 64 MB is forgotten when it is asked for."""
    try:
        peak = mmap.mmap(-1, 64 << 20)
        peak.write(b"\1" * (64 << 20))
        peak.close()
        Path("/proc/self/clear_refs").write_text("5")
        figures = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(figures["VmHWM"].split()[0]) - int(figures["VmRSS"].split()[0]) < 32 << 10
    except (OSError, KeyError):
        return False
