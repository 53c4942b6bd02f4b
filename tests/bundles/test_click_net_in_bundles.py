"""ClickNet as backbone and as generalist of the bundles, on phantoms of a few voxels."""

from __future__ import annotations

import json

import heart_runs
import promptable_runs
import pytest
import semisam_runs
import torch

pytestmark = pytest.mark.slow  # whole pipelines


@pytest.mark.parametrize("dims, shipped", [(2, True), (3, False)])
def test_promptable_training_goes_on_from_its_weights(dims, shipped, phantoms, tmp_path):
    name = f"promptable_pretrain_{dims}d"
    settings = {"backbone": f"click_net_{dims}d", "shipped_weights": shipped, "train_epochs": 1}
    promptable_runs.run(name, phantoms, tmp_path, **settings)
    trained, random = (
        json.loads((folder / "metrics.json").read_text())["summary"]["clicks"]["left atrium"]["iou_5"]["mean"]
        for folder in (tmp_path, tmp_path / "evaluation" / "random_weights")
    )
    assert trained != random


def test_a_network_without_weights_says_so(phantoms, tmp_path):
    with pytest.raises(SystemExit, match="this package has none for 'click_net_3d'.* pretrained=False"):
        promptable_runs.run("promptable_pretrain_3d", phantoms, tmp_path, backbone="click_net_3d")


def test_slice_labels_become_masks_by_it(phantoms, tmp_path):
    heart_runs.run(phantoms, tmp_path, backbone="click_net_2d", pretrain=False, cam_epochs=1, train_epochs=1)
    assert not (tmp_path / "pretrain").exists()
    weights = torch.load(tmp_path / "models" / "cam.pt", weights_only=True)
    assert "backbone.image_encoder.stem.weight" in weights
    assert list((tmp_path / "pseudo_labels").glob("*.nii.gz")) and (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("prompt", ["point", "mask", "uncertainty"])
def test_it_may_be_a_generalist(prompt, phantoms, tmp_path):
    generalist = {"name": "click_net_3d", "img_size": 32, "checkpoint": None, "normalization": "none"}
    generalist["pretrained"] = False
    semisam_runs.workflow(
        "semisam_la2018", "train.json", phantoms, tmp_path, "mean_teacher", generalists=[generalist], prompt=prompt,
        num_clicks=2, epochs=1, ckpt_dir=str(tmp_path),
    ).run()  # fmt: skip
    assert (tmp_path / "model.pt").exists()
