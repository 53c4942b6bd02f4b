from __future__ import annotations

import platform

import numpy as np
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


@pytest.mark.skipif(platform.system() != "Linux", reason="only Linux resets the record of a process")
def test_memory_is_that_of_the_stage_alone(tmp_path):
    large = np.ones(150 << 20, dtype=np.uint8)
    before = StageUsage(tmp_path).record()["memory_mb"]
    del large
    assert StageUsage(tmp_path).record()["memory_mb"] < before - 100
