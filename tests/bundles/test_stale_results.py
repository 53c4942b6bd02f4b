"""Nothing goes stale in silence: what was tried on real pipelines, on phantoms of a few voxels."""

from __future__ import annotations

import json
import os
import shutil

import heart_runs
import nibabel as nib
import numpy as np
import pytest
import semisam_runs
import torch
from interrupted import interrupted_after_one_epoch

import weakmedsam_ext.bundle.run_key
from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import decathlon_cases, write_phantoms
from weakmedsam_ext.networks import build_network

pytestmark = pytest.mark.slow  # whole pipelines

LA = "semisam_la2018"


@pytest.fixture(scope="module")
def weak_run(tmp_path_factory):
    """A finished run of the weak pipeline, and its data."""
    folder = tmp_path_factory.mktemp("weak")
    write_phantoms(folder / "data", num_cases=8, size=(32, 36, 8), progress=False)
    heart_runs.run(folder / "data", folder / "run", **WEAK)
    return folder


WEAK = {"pretrain": False, "backbone": "click_net_2d", "checkpoint": None, "trainable": "all"}


@pytest.fixture
def weak(weak_run, tmp_path):
    return shutil.copytree(weak_run, tmp_path / "copy")


def stages_run(function, caplog):
    """Names of the stages that ran, and why."""
    caplog.clear()
    caplog.set_level("INFO")
    function()
    messages = [record.getMessage() for record in caplog.records if record.name.endswith("pipeline")]
    return {text.split("] ")[1].split(":")[0]: text.partition("again: ")[2] for text in messages if ": running" in text}


def rerun(weak, caplog, **settings):
    return stages_run(lambda: heart_runs.run(weak / "data", weak / "run", **{**WEAK, **settings}), caplog)


AFTER_CAM = ["train_cam", "cam_labels", "pseudo_label", "train", "predict", "evaluate", "report"]


def test_the_same_command_runs_nothing_also_after_the_folder_was_moved(weak, caplog):
    assert rerun(weak, caplog) == {}
    (weak / "run").rename(weak / "moved")
    (weak / "data").rename(weak / "elsewhere")
    again = lambda: heart_runs.run(weak / "elsewhere", weak / "moved", **WEAK)  # noqa: E731
    assert stages_run(again, caplog) == {}


def test_another_learning_rate_of_the_class_network_changes_all_that_follows(weak, caplog):
    before = {path: path.read_bytes() for path in (weak / "run").glob("pseudo_labels/*.nii.gz")}
    old = (weak / "run/models/cam.pt").read_bytes()
    ran = rerun(weak, caplog, cam_learning_rate=0.01, cam_epochs=4)
    assert list(ran) == AFTER_CAM
    assert ran["train_cam"] == "cam_epochs changed: 2 -> 4, cam_learning_rate changed: 0.0005 -> 0.01"
    assert ran["pseudo_label"] == "1 inputs changed: models/cam.pt"
    assert before != {path: path.read_bytes() for path in before}
    assert (weak / "run/models/cam.previous.pt").read_bytes() == old
    assert json.loads((weak / "run/models/cam.json").read_text())["settings"]["cam_learning_rate"] == 0.01


def labels_csv(weak, shift=0):
    """Slice labels of a finished run as a CSV file, moved by some slices."""
    labels = json.loads((weak / "run/slice_labels.json").read_text())["cases"]
    rows = [
        f"{case},{z},{';'.join(slices[(z + shift) % len(slices)])}"
        for case, slices in labels.items()
        for z in range(len(slices))
    ]
    (weak / "labels.csv").write_text("\n".join(["case,slice,classes", *rows]) + "\n")
    return str(weak / "labels.csv")


def test_corrected_slice_labels_at_the_same_path_change_all_that_follows(weak, caplog):
    settings = {"labels_csv": labels_csv(weak)}
    rerun(weak, caplog, **settings)
    before = (weak / "run/subclasses.json").read_bytes()
    labels_csv(weak, shift=3)
    ran = rerun(weak, caplog, **settings)
    assert list(ran) == ["slice_labels", "cluster", *AFTER_CAM]
    assert ran["slice_labels"].startswith("labels_csv changed: labels.csv (")
    assert ran["train_cam"].endswith("2 inputs changed: slice_labels.json, subclasses.json")
    assert (weak / "run/subclasses.json").read_bytes() != before


def test_corrected_masks_give_other_slice_labels(weak, caplog):
    """Masks are opened for slice labels and evaluation only, and known by their content."""
    split = json.loads((weak / "run/slice_labels.json").read_text())["cases"]
    case = next(item for item in decathlon_cases(weak / "data") if item["case"] in split)
    mask = nib.load(case["label"])
    moved = np.roll(np.asarray(mask.dataobj), 2, axis=2)
    nib.save(nib.Nifti1Image(moved, mask.affine), case["label"])
    ran = rerun(weak, caplog)
    assert ran["slice_labels"] == f"1 inputs changed: labelsTr/{case['case']}.nii.gz"
    assert list(ran) == ["check", "slice_labels", "cluster", *AFTER_CAM]


def test_a_changed_volume_is_noticed(weak, caplog):
    split = json.loads((weak / "run/slice_labels.json").read_text())["cases"]
    case = next(item for item in decathlon_cases(weak / "data") if item["case"] in split)
    image = nib.load(case["image"])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), case["image"])
    ran = rerun(weak, caplog)
    assert ran["slice_labels"] == f"1 inputs changed: imagesTr/{case['case']}.nii.gz"
    assert ran["cluster"] == f"2 inputs changed: imagesTr/{case['case']}.nii.gz, slice_labels.json"
    assert list(ran)[-1] == "report"


def test_another_checkpoint_at_the_same_path_is_noticed(weak, caplog):
    path = weak / "own.pt"
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(build_network("click_net_2d", pretrained=False, img_size=32).state_dict(), path)
        ran = rerun(weak, caplog, checkpoint=str(path))
        assert ran["cluster"].startswith("checkpoint changed: ") and ran["pseudo_label"]
    assert "own.pt (" in ran["train_cam"] and ran["train_cam"].count("own.pt") == 2


def test_a_newer_package_runs_everything_again(weak, caplog, monkeypatch):
    monkeypatch.setattr(weakmedsam_ext.bundle.run_key, "__version__", "99.0")
    ran = rerun(weak, caplog)
    assert list(ran) == ["check", "slice_labels", "cluster", *AFTER_CAM]
    assert set(ran.values()) == {"package version changed: 0.1.0 -> 99.0"} | {ran[name] for name in AFTER_CAM[1:]}


@pytest.mark.parametrize(
    ("settings", "nearest"),
    [
        ({"cam_epoch": 20}, "cam_epochs"),
        ({"weight_decya": 0.1}, "weight_decay"),
        ({"chache_num": 4}, "cache_num"),
    ],
)
def test_settings_that_nobody_declares_are_refused(tmp_path, settings, nearest):
    with pytest.raises(ValueError, match=f"pipeline.json.*: there is no '.*'; did you mean '{nearest}'"):
        training_workflow(heart_runs.BUNDLE / "configs", "pipeline.json", **settings)


def test_every_setting_of_a_stage_can_be_given_to_the_pipeline(weak, caplog):
    """Settings that were swallowed once: those that only a stage declares."""
    ran = rerun(weak, caplog, weight_decay=0.2, val_interval=2, cache_num=4, amp=False)
    assert list(ran) == ["train", "predict", "evaluate", "report"]
    assert ran["train"] == "weight_decay changed: 0.1 -> 0.2, val_interval changed: 5 -> 2"


def test_a_cut_training_is_not_continued_with_other_classes(weak, caplog):
    """A run that was killed in train_cam, and started again with other slice labels."""
    with interrupted_after_one_epoch() as written:
        rerun(weak, caplog, cam_learning_rate=0.002)
    assert written == ["train_cam.pt"]
    rerun(weak, caplog, cam_learning_rate=0.002, labels_csv=labels_csv(weak, shift=2))
    assert "train_cam.pt is of another run" in caplog.text
    fresh = weak / "fresh"
    heart_runs.run(weak / "data", fresh, **WEAK, cam_learning_rate=0.002, labels_csv=str(weak / "labels.csv"))
    one, other = (torch.load(folder / "models/cam.pt", weights_only=True) for folder in (weak / "run", fresh))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_cases_that_are_added_later_are_trained_on_before_others_are_scored(tmp_path, caplog):
    """Four cases added to dataset.json after a finished run, the same command: the split is another one."""
    data, run = tmp_path / "data", tmp_path / "run"
    write_phantoms(data, num_cases=9, size=(32, 36, 8), progress=False)
    listing = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**listing, "training": listing["training"][:6]}))
    settings = {"method": "supervised", "labelled": 2, "num_folds": 2, "num_test": 2}
    semisam_runs.run(LA, data, run, **settings)
    (data / "dataset.json").write_text(json.dumps(listing))
    ran = stages_run(lambda: semisam_runs.run(LA, data, run, **settings), caplog)
    assert list(ran) == ["check", "train", "predict", "evaluate", "report"] and "inputs added" in ran["train"]
    record = json.loads((run / "stages/train.json").read_text())["record"]["inputs"]
    trained = {os.path.basename(name) for name in record}
    assert trained.isdisjoint(path.name for path in (run / "predictions").glob("*.nii.gz"))
