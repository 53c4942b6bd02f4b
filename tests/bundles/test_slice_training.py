"""How the segmentation network of slice labels sees small organs: classes drawn alike, their weights, enough steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from torch.nn import functional as F

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import list_cases, write_phantoms

BUNDLE = Path(__file__).parents[2] / "bundles" / "weakmedsam_abdomenct1k"


@pytest.fixture(scope="module")
def abdomen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("abdomen")
    write_phantoms(folder / "data", num_cases=6, size=(40, 40, 24), layout="abdomenct1k", progress=False)
    (folder / "labels").mkdir()
    for case in list_cases(folder / "data"):
        (folder / "labels" / f"{case['case']}.nii.gz").symlink_to(case["label"])
    return folder


def parsed(folder, name, config="train.json", **settings):
    where = {"bundle_root": str(BUNDLE), "dataset_dir": str(folder / "data"), "output_dir": str(folder / "run")}
    small = {"num_folds": 3, "fold": 0, "device": "cpu"}
    if config == "train.json":
        small |= {"label_dir": str(folder / "labels"), "segmenter": "unet", "roi_size": 32, "pixel_size": None}
    return training_workflow(BUNDLE / "configs", config, **{**where, **small, **settings}).parser.get_parsed_content(
        name
    )


def test_each_class_is_at_the_centre_of_as_many_slices(abdomen):
    dataset = parsed(abdomen, "train::dataset", slices_per_volume=40, flip_axes=[], roi_size=8)
    dataset.transform.transforms[-1].prob = dataset.transform.transforms[-2].prob = 0.0  # neither turned nor brightened
    dataset.transform.set_random_state(0)
    centres = [int(crop["label"][0, 4, 4]) for index in range(len(dataset)) for crop in dataset[index]]
    assert len(centres) == 160
    assert all(np.mean(np.equal(centres, k)) > 0.1 for k in range(5))


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_background_counts_as_much_as_said(weight, abdomen):
    loss = parsed(abdomen, "loss", background_weight=weight)
    logits, label = torch.randn(2, 5, 8, 8), torch.randint(5, (2, 1, 8, 8))
    weights = torch.tensor([weight, 1, 1, 1, 1])
    picked, log_p = weights[label[:, 0]], F.log_softmax(logits, 1).gather(1, label)[:, 0]
    dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)(logits, label)
    torch.testing.assert_close(loss(logits, label), dice - (picked * log_p).sum() / picked.sum())


@pytest.mark.parametrize(
    ("settings", "epochs"), [({}, 300), ({"min_steps": 11}, 30), ({"min_steps": 62}, 31), ({"epochs": 2}, 2)]
)
def test_few_cases_are_seen_more_often(settings, epochs, abdomen):
    assert parsed(abdomen, "train::trainer::max_epochs", **settings) == epochs


@pytest.mark.parametrize(("axes", "mirrored"), [([], 0), ([0], 1), ([0, 1], 2)])
def test_slices_are_mirrored_along_the_axes_that_are_named(axes, mirrored, abdomen):
    flips = [step for step in parsed(abdomen, "train::random_transforms", flip_axes=axes) if hasattr(step, "flipper")]
    assert [step.prob for step in flips] == [0.5] * mirrored + [0.0] * (2 - mirrored)
    assert parsed(abdomen, "cam_flip", "pipeline.json", flip_axes=axes) is (0 in axes)
