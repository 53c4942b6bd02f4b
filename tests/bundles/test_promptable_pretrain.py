"""The promptable bundles from unlabelled volumes to scores, on phantoms of a few voxels."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from interrupted import interrupted_after_one_epoch
from promptable_runs import BUNDLES, SMALL, run
from trained_weights import same, weights

from weakmedsam_ext.data import write_phantoms
from weakmedsam_ext.networks import build_network

pytestmark = pytest.mark.slow  # whole pipelines

NAMES = sorted(SMALL)
BACKBONES = {name: json.loads((BUNDLES / name / "configs" / "pipeline.json").read_text())["backbone"] for name in NAMES}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, num_cases=5, size=(40, 36, 12), progress=False)
    return folder


@pytest.fixture(scope="module", params=NAMES)
def finished(request, phantoms, tmp_path_factory):
    """Name of a bundle, and the output of an uninterrupted run."""
    output = tmp_path_factory.mktemp(request.param)
    run(request.param, phantoms, output)
    return request.param, output


@pytest.fixture
def unlabelled(phantoms, tmp_path):
    """The same volumes, listed without masks, of which only garbage is left."""
    folder = shutil.copytree(phantoms, tmp_path / "unlabelled")
    for mask in (folder / "labelsTr").glob("*.nii.gz"):
        mask.write_bytes(b"garbage")
    content = json.loads((folder / "dataset.json").read_text())
    content["training"] = [{"image": item["image"]} for item in content["training"]]
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def assert_same_weights(one, other):
    assert same(*(weights(output / "models" / "model.pt") for output in (one, other)))


def test_scores_beside_both_baselines(finished):
    _, output = finished
    folders = (output, output / "evaluation" / "superpixels", output / "evaluation" / "random_weights")
    scores = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    assert scores[0]["cases"] == scores[1]["cases"] == scores[2]["cases"] and len(scores[0]["cases"]) == 1
    assert all(set(s["summary"]["clicks"]["left atrium"]) >= {"iou_1", "iou_3", "iou_5"} for s in scores)
    assert (output / "metrics.csv").exists() and list((output / "figures").glob("*.png"))


def test_weights_are_those_of_the_backbone(finished):
    """As --checkpoint of other bundles takes them."""
    name, output = finished
    weights = torch.load(output / "models" / "model.pt", weights_only=True)
    network = build_network(BACKBONES[name], output / "models" / "model.pt", img_size=32)
    assert all(torch.equal(value, weights[f"backbone.{key}"]) for key, value in network.state_dict().items())


def test_masks_are_opened_for_the_check_and_evaluation_only(finished, phantoms, tmp_path):
    name, output = finished
    poisoned = shutil.copytree(phantoms, tmp_path / "poisoned")
    for mask in (poisoned / "labelsTr").glob("*.nii.gz"):
        mask.write_bytes(b"garbage")
    with pytest.raises(SystemExit, match="error in stage 'check': .*labelsTr.* is damaged or no medical volume"):
        run(name, poisoned, tmp_path / "run")
    with pytest.raises(SystemExit, match="error in stage 'evaluate': .*labelsTr.* is damaged or no medical volume"):
        run(name, poisoned, tmp_path / "run", check=False)
    assert_same_weights(output, tmp_path / "run")


def test_unlabelled_volumes_are_enough(finished, unlabelled, tmp_path):
    name, output = finished
    run(name, unlabelled, tmp_path / "run")
    assert_same_weights(output, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_an_interrupted_run_ends_with_the_same_numbers(finished, phantoms, tmp_path):
    name, output = finished
    with interrupted_after_one_epoch():
        run(name, phantoms, tmp_path)
    assert (tmp_path / "checkpoints" / "train.pt").exists() and not (tmp_path / "models").exists()
    run(name, phantoms, tmp_path)
    assert_same_weights(output, tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == (output / "metrics.json").read_bytes()


def test_finetuning_starts_from_what_was_learnt_without_labels(finished, phantoms, tmp_path):
    name, output = finished
    run(name, phantoms, tmp_path, finetune=True, structures={"left atrium": 1})
    assert_same_weights(output, tmp_path)
    learnt, tuned = (torch.load(tmp_path / "models" / file, weights_only=True) for file in ("model.pt", "finetuned.pt"))
    fresh = build_network(BACKBONES[name], img_size=32).state_dict()
    key = "image_encoder.patch_embed.proj.weight"
    moved, apart = (weights - learnt[f"backbone.{key}"] for weights in (tuned[f"backbone.{key}"], fresh[key]))
    assert 0 < moved.norm() < apart.norm()
    scored = [json.loads((folder / "stages" / "evaluate.json").read_text())["key"] for folder in (output, tmp_path)]
    assert scored[0] != scored[1]  # other weights were scored


@pytest.mark.parametrize("name", NAMES)
def test_finetuning_wants_to_know_on_what(name, phantoms, tmp_path):
    with pytest.raises(SystemExit, match="error in stage 'finetune': structures: expected at least one name"):
        run(name, phantoms, tmp_path, finetune=True, train_epochs=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_data_set_is_told_in_one_sentence(name, tmp_path):
    assert (BUNDLES / name / "docs" / "README.md").exists()
    with pytest.raises((FileNotFoundError, RuntimeError, SystemExit)) as caught:
        run(name, tmp_path / "nowhere", tmp_path / "run")
    assert "nowhere is no folder; correct the path" in str(caught.value) + str(caught.value.__cause__)
