"""Benchmarks that nothing else runs, at the smallest size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weakmedsam_ext.data import write_phantoms

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.slow


def run(name, *arguments):
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr[-3000:]


def test_synthetic_pretraining_ends_a_call_early_and_goes_on(tmp_path):
    small = ("--dims", 2, "--iterations", 4, "--sizes", "[32]", "--batch_size", 2, "--num_clicks", 2, "--num_rounds", 2)
    small = (*small, "--checkpoint_every", 2, "--validation_batches", 1, "--device", "cpu", "--output", tmp_path)
    steps = []
    for _ in range(2):
        run("synthetic_pretraining.py", *small, "--call_minutes", 0)
        steps.append([row["step"] for row in json.loads((tmp_path / "click_net_2d.json").read_text())["log"]])
    assert steps == [[2], [2, 4]]


def test_an_oracle_says_the_true_masks(tmp_path):
    """A perfect generalist's pseudo-masks are the masks, so their Dice is 1; moved by two voxels they are not."""
    write_phantoms(tmp_path / "data", num_cases=28, size=(32, 32, 8), progress=False)
    small = ("--roi_size", "[16,16,16]", "--stride", "[16,16,16]", "--channels", 2, "--train_epochs", 1)
    small = (*small, "--batches_per_epoch", 2, "--seeds", 1, "--weights", "[1.0]")
    where = ("--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "run", "--csv", tmp_path / "table.csv")
    run("semisam_oracle.py", *where, *small, "--shifts", "[0,2]", "--spacing", 2.5)
    files = sorted((tmp_path / "run").rglob("oracle.json"))
    said = [json.loads(path.read_text())["Dice of pseudo-masks"] for path in files]
    assert said[0] == 1.0 and 0 <= said[1] < 1
