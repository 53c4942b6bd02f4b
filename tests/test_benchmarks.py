"""Benchmarks that nothing else runs, at the smallest size."""

from __future__ import annotations

import csv
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


def test_a_killed_pipeline_ends_with_the_results_of_an_undisturbed_one(tmp_path):
    small = ("--runs", 1, "--pipelines", "['promptable_2d']", "--output_dir", tmp_path / "runs")
    run("soak.py", *small, "--csv_path", tmp_path / "table.csv")
    (row,) = csv.DictReader((tmp_path / "table.csv").open())
    assert row["pipeline"] == "promptable_2d" and row["differences"] == "0" and int(row["kills"]) <= 8
    assert (tmp_path / "runs" / "promptable_2d" / "run_00" / "metrics.json").exists()


@pytest.mark.parametrize(("option", "value"), [("--runs", 0), ("--pipelines", "['nothing']")])
def test_a_soak_refuses_what_it_cannot_do(option, value):
    command = [sys.executable, str(BENCHMARKS / "soak.py"), option, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("expected runs of at least 1 and pipelines of")


def test_methods_are_compared_on_one_split(tmp_path):
    write_phantoms(tmp_path / "data", num_cases=28, size=(32, 32, 8), progress=False)
    small = ("--roi_size", "[32,32,16]", "--stride", "[16,16,16]", "--channels", 2, "--train_epochs", 1)
    small = (*small, "--batches_per_epoch", 2, "--seeds", 1, "--labelled", "[2]", "--methods", "['copy_paste']")
    where = ("--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "run", "--csv", tmp_path / "table.csv")
    run("semisam_la2018.py", *where, *small, "--spacing", 2.5)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["labelled"], row["method"]) for row in rows] == [("2", "copy_paste"), ("all", "supervised")]
    assert all(0 <= float(row["Dice"]) <= 1 for row in rows)


def test_steps_from_slice_labels_are_changed_one_at_a_time(tmp_path):
    write_phantoms(tmp_path / "data", num_cases=6, size=(40, 40, 12), layout="brats2019", progress=False)
    small = {"num_folds": 3, "fold": 0, "num_test": 1, "img_size": 64, "cam_scales": [1.0], "cam_epochs": 1}
    small |= {"walk_size": 16, "num_subclasses": 2, "roi_size": 32, "pixel_size": None, "train_epochs": 1}
    bundle = BENCHMARKS.parent / "bundles" / "weakmedsam_brats2019"
    where = ("--bundle_root", bundle, "--dataset_dir", tmp_path / "data", "--output_dir", tmp_path / "runs")
    variants = ["as the recipe", "no seeded walk"]
    which = ("--variants", variants, "--trained", variants[1:], "--settings", small)
    run("slice_label_steps.py", *where, *which, "--csv", tmp_path / "table.csv")
    whole, no_walk = csv.DictReader((tmp_path / "table.csv").open())
    assert [whole["variant"], no_walk["variant"]] == variants
    maps, labels = "maps, training cases", "pseudo-labels, training cases"
    assert whole[maps] == no_walk[maps] == no_walk[labels] != whole[labels]
    logs = [tmp_path / "runs" / name.replace(" ", "_") / "logs" / "train_cam.csv" for name in variants]
    assert logs[0].stat().st_mtime_ns == logs[1].stat().st_mtime_ns  # copied with the run, and not trained again
    assert not whole["network, held-out cases"] and 0 <= float(no_walk["network, held-out cases"]) <= 1
