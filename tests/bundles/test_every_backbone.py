"""Every weak bundle with every backbone, by the one option: it starts, trains two steps and writes masks."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import list_cases, write_phantoms
from weakmedsam_ext.networks import (
    BACKBONES,
    PromptAffinity,
    WeakMedSAMNet,
    backbone_default,
    build_backbone,
    build_network,
)
from weakmedsam_ext.networks.factory import NETWORKS

pytestmark = pytest.mark.slow  # three dozen trainings, some of full-size networks

FOLDER = Path(__file__).parents[2] / "bundles"
BUNDLES = {path.parent.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*/bundle.json"))}
WEAK = [name for name, bundle in BUNDLES.items() if bundle["recipe"] == "weakmedsam"]
LAYOUTS = {"Task02_Heart": "decathlon", "AbdomenCT-1K": "abdomenct1k", "MICCAI_BraTS_2019_Data_Training": "brats2019"}
SIZE = 32
PUBLISHED_SIZE = {"samus": 256}  # of what position tables are for; those of SAM, for 1024 pixels, are resampled too
STAGES = ("slice_labels", "cluster", "train_cam", "cam_labels", "pseudo_label")
SMALL = {
    "img_size": SIZE,
    "prompt_size": SIZE,
    "walk_size": 16,
    "num_folds": 2,
    "fold": 0,
    "num_test": 0,
    "num_subclasses": 2,
    "cam_epochs": 1,
    "cam_batch_size": 4,  # half the slices of the one case for training
    "use_affinity": True,  # the stage before, cam_labels, is without
    "device": "cpu",
}


class Start(NamedTuple):
    """A backbone as a training starts from it."""

    name: str
    checkpoint: str | None
    network: nn.Module


@pytest.fixture(scope="module", params=list(BACKBONES))
def start(request, tmp_path_factory):
    """A backbone, with a file of random weights in the published format for those that come without weights."""
    name, path = request.param, None
    if not BACKBONES[name].has_weights:
        published = backbone_default(name, "prompter")  # a SAM file is what samus_vit_b starts from
        path = tmp_path_factory.mktemp("checkpoints") / f"{published}.pth"
        size = PUBLISHED_SIZE.get(published.partition("_")[0], 1024)
        torch.save(build_network(published, img_size=size).state_dict(), path)
    checkpoint = None if path is None else str(path)
    yield Start(name, checkpoint, build_backbone(name, checkpoint, SIZE))
    if path is not None:
        path.unlink()


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """Two volumes in the layout of each bundle's data set, drawn once."""
    drawn = {}

    def draw(bundle):
        if bundle not in drawn:
            drawn[bundle] = tmp_path_factory.mktemp(bundle)
            layout = LAYOUTS[BUNDLES[bundle]["settings"]["dataset_dir"]]
            write_phantoms(drawn[bundle], layout, num_cases=2, size=(SIZE, SIZE + 4, 8), progress=False)
        return drawn[bundle]

    return draw


def run(bundle, dataset_dir, output_dir, **settings):
    """Run the pipeline up to the pseudo-labels."""
    where = {"bundle_root": str(FOLDER / bundle), "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}
    workflow = training_workflow(FOLDER / bundle / "configs", "pipeline.json", **where, **SMALL, **settings)
    pipeline = workflow.parser.get_parsed_content("pipeline")
    pipeline.stages = [stage for stage in pipeline.stages if stage["name"] in STAGES]
    pipeline.run()
    gc.collect()  # engines and handlers hold each other, and with them full-size networks


def check_training(start, path):
    """What trains by the backbone's default has changed, the rest has not."""
    trained = torch.load(path, weights_only=True, mmap=True)
    trainable = backbone_default(start.name, "trainable")
    before = WeakMedSAMNet(start.network, 1, 1, trainable=trainable).backbone.named_parameters()
    same = {True: [], False: []}
    for name, parameter in before:
        same[parameter.requires_grad].append(torch.equal(parameter, trained[f"backbone.{name}"]))
    assert not all(same[True]) and all(same[False])


def check_masks(dataset_dir, output, folder, class_map, modalities):
    """Every case has a mask on the grid of its image; a slice holds the classes that its label names, and no other."""
    labels = json.loads((output / "slice_labels.json").read_text())["cases"]
    cases = {case["case"]: case for case in list_cases(dataset_dir, modalities=modalities)}
    assert {path.name for path in (output / folder).glob("*.nii.gz")} == {f"{case}.nii.gz" for case in cases}
    assert set(labels) == set(cases)
    for name, case in cases.items():
        image, mask = nib.load(case["image"]), nib.load(output / folder / f"{name}.nii.gz")
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        array = np.asarray(mask.dataobj)
        assert len(labels[name]) == array.shape[2] and any(labels[name])
        for index, visible in enumerate(labels[name]):  # phantoms lie from foot to head in their files too
            expected = {number for number, one in enumerate(class_map, 1) if one in visible}
            assert set(np.unique(array[..., index])) - {0} == expected, f"{folder}, {name}, slice {index}"


@pytest.fixture
def steps():
    """Grows by one with every optimizer step."""
    taken = []
    hook = register_optimizer_step_post_hook(lambda *_: taken.append(1))
    yield taken
    hook.remove()


@pytest.fixture
def prompted(monkeypatch):
    """Classes of the networks that are prompted."""
    found, guide = set(), PromptAffinity.guide

    def watched(self, *arguments):
        found.add(type(self.backbone))
        return guide(self, *arguments)

    monkeypatch.setattr(PromptAffinity, "guide", watched)
    return found


@pytest.mark.parametrize("bundle", WEAK)
def test_a_backbone_is_one_option_of_a_bundle(bundle, start, volumes, steps, prompted, tmp_path):
    settings, weights = BUNDLES[bundle]["settings"], tmp_path / "models" / "cam.pt"
    run(bundle, volumes(bundle), tmp_path, backbone=start.name, checkpoint=start.checkpoint)
    assert len(steps) == 2
    assert prompted == {NETWORKS[backbone_default(start.name, "prompter")][0]}
    check_training(start, weights)
    for folder in ("cam_labels", "pseudo_labels"):
        check_masks(volumes(bundle), tmp_path, folder, settings["class_map"], settings.get("modalities"))
    weights.unlink()  # hundreds of MB of the largest ones
