"""`--data synthetic`: promptable networks learn from images that a program makes up, and from no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import promptable_runs
import pytest
from interrupted import interrupted_after_one_epoch
from trained_weights import same, weights

from weakmedsam_ext.data import split_dataset

pytestmark = pytest.mark.slow  # whole trainings
SYNTHETIC = {"synthetic_steps": 2, "shipped_weights": False}


def train(name, data, output, **settings):
    """The training alone; validation looks at other cases."""
    fixed = {"ckpt_dir": str(output), "backbone": f"click_net_{name[-2]}d", **SYNTHETIC}
    settings = {"epochs": 2, **fixed, **settings}
    promptable_runs.workflow(name, data, output, "train.json", "synthetic.json", **settings).run()
    return weights(output / "model.pt")


@pytest.mark.parametrize("dims", [2, 3])
def test_images_of_training_cases_are_never_opened(dims, phantoms, tmp_path):
    name = f"promptable_pretrain_{dims}d"
    short = {"epochs": 1, "batch_size": 1}
    clean = train(name, phantoms, tmp_path / "clean", **short)
    shutil.copytree(phantoms, tmp_path / "data")
    for case in split_dataset(tmp_path / "data", num_folds=2, num_test=1)["train"]:
        for key in ("image", "label"):
            Path(case[key]).write_bytes(b"garbage")
    assert same(clean, train(name, tmp_path / "data", tmp_path / "poisoned", **short))


def test_a_killed_training_goes_on_with_other_images(phantoms, tmp_path):
    """Two epochs at once and one after the other give the same; an epoch has images of its own."""
    name = "promptable_pretrain_2d"
    whole = train(name, phantoms, tmp_path / "whole")
    losses = (tmp_path / "whole" / "logs" / "train.csv").read_text().splitlines()[1:]
    assert len({line.split(",")[1] for line in losses}) == 2

    with interrupted_after_one_epoch():
        train(name, phantoms, tmp_path / "cut")
    assert not same(whole, weights(tmp_path / "cut" / "model.pt"))
    assert same(whole, train(name, phantoms, tmp_path / "cut"))
    assert not same(whole, train(name, phantoms, tmp_path / "seed", seed=1))


def test_the_pipeline_scores_on_real_volumes_and_says_what_it_learnt_from(phantoms, tmp_path):
    name, settings = "promptable_pretrain_2d", {"backbone": "click_net_2d", "train_epochs": 1}
    promptable_runs.run(name, phantoms, tmp_path, data="synthetic", **settings, **SYNTHETIC)
    assert "from images that a program made up" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "metrics.json").exists()
    synthetic = weights(tmp_path / "models" / "model.pt")
    promptable_runs.run(name, phantoms, tmp_path, shipped_weights=False, **settings)
    assert not same(synthetic, weights(tmp_path / "models" / "model.pt"))
    assert "regions that the computer found" in (tmp_path / "report.html").read_text()
