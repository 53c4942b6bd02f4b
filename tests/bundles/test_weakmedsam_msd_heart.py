"""The heart bundle from slice labels to masks, on phantoms of a few voxels."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import torch
from heart_runs import BUNDLE, CONFIGS, SMALL, run

from weakmedsam_ext.bundle import Pipeline, user_message
from weakmedsam_ext.data import SliceStudy

pytestmark = pytest.mark.slow  # whole pipelines


@pytest.fixture(scope="module")
def finished(phantoms, tmp_path_factory):
    """An uninterrupted run."""
    output = tmp_path_factory.mktemp("finished")
    run(phantoms, output)
    return output


def weights_of(path):
    return torch.load(path, weights_only=True)


def assert_same_results(one, other):
    for name in ("pretrain/models/model.pt", "models/cam.pt", "models/model.pt"):
        a, b = weights_of(one / name), weights_of(other / name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    for folder in ("cam_labels", "pseudo_labels", "predictions"):
        files = sorted(path.name for path in (one / folder).glob("*.nii.gz"))
        assert files and files == sorted(path.name for path in (other / folder).glob("*.nii.gz"))
        for name in files:
            a, b = (np.asarray(nib.load(output / folder / name).dataobj) for output in (one, other))
            np.testing.assert_array_equal(a, b)


def test_masks_lie_on_the_grid_of_their_volumes(phantoms, finished):
    split = SliceStudy(phantoms, finished, {"left atrium": 1}, 32, num_folds=2, num_test=2).split
    for folder, parts in (("pseudo_labels", ("train", "validation")), ("predictions", ("test",))):
        cases = [case for part in parts for case in split[part]]
        assert {path.name for path in (finished / folder).glob("*.nii.gz")} == {f"{c['case']}.nii.gz" for c in cases}
        for case in cases:
            image, mask = nib.load(case["image"]), nib.load(finished / folder / f"{case['case']}.nii.gz")
            assert mask.shape == image.shape and set(np.unique(mask.dataobj)) <= {0, 1}
            np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    assert (finished / "metrics.json").stat().st_size and list((finished / "pseudo_labels" / "figures").glob("*.png"))


def test_finished_work_is_not_done_again(phantoms, finished):
    def times():
        """Of all files but the log, which says that every stage was finished before, and the memory of hashes."""
        files = (p for p in finished.rglob("*") if p.is_file() and p.name not in ("pipeline.log", "hashes.json"))
        return {path: path.stat().st_mtime_ns for path in files}

    before = times()
    start = time.monotonic()
    run(phantoms, finished)
    assert time.monotonic() - start < 15
    assert before == times()


def test_the_upper_bound_learns_from_the_real_masks_when_asked(phantoms, finished):
    """Only its own stages run; what was there stays."""
    before = {path: path.read_bytes() for path in finished.glob("models/*.pt")}
    run(phantoms, finished, supervised=True)
    assert before == {path: path.read_bytes() for path in finished.glob("models/*.pt")}
    supervised = json.loads((finished / "evaluation" / "supervised" / "metrics.json").read_text())
    assert supervised["cases"] == json.loads((finished / "metrics.json").read_text())["cases"]
    a, b = (weights_of(folder / "models" / "model.pt") for folder in (finished, finished / "supervised"))
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_slices_labelled_by_hand_need_no_mask_at_all(phantoms, finished, tmp_path):
    """The same labels from a CSV file: the same networks and masks, and nothing to evaluate."""
    listing = json.loads((phantoms / "dataset.json").read_text())
    listing["training"] = [{"image": item["image"]} for item in listing["training"]]
    shutil.copytree(phantoms / "imagesTr", tmp_path / "data" / "imagesTr")
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(listing))
    labels = json.loads((finished / "slice_labels.json").read_text())["cases"]
    rows = [f"{case},{z},{';'.join(names)}" for case, slices in labels.items() for z, names in enumerate(slices)]
    (tmp_path / "labels.csv").write_text("\n".join(["case,slice,classes", *rows]) + "\n")
    run(tmp_path / "data", tmp_path / "run", labels_csv=str(tmp_path / "labels.csv"))
    assert_same_results(finished, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_masks_are_opened_for_slice_labels_and_evaluation_only(phantoms, finished, tmp_path, monkeypatch):
    """Once the slices are labelled, garbage in place of the masks changes nothing, until `evaluate` names it."""
    poisoned, output = shutil.copytree(phantoms, tmp_path / "data"), tmp_path / "run"
    run_once = Pipeline._run_once

    def poison_after_the_labels(self, stage, title):
        run_once(self, stage, title)
        if stage["name"] == "slice_labels":
            for mask in (poisoned / "labelsTr").glob("*.nii.gz"):
                mask.write_bytes(b"garbage")

    monkeypatch.setattr(Pipeline, "_run_once", poison_after_the_labels)
    with pytest.raises(SystemExit, match="error in stage 'evaluate': .*labelsTr.* is damaged or no medical volume"):
        run(poisoned, output)
    assert_same_results(finished, output)


@pytest.mark.parametrize(
    "sign",
    [
        "pretrain/checkpoints/train.pt",
        "checkpoints/train_cam.pt",
        "cam_labels/pseudo_labels.json",
        "checkpoints/train.pt",
    ],
)
def test_a_killed_run_ends_with_the_same_numbers(phantoms, finished, tmp_path, sign):
    """Kill -9 as soon as a stage has left its first trace."""
    settings = [text for key, value in SMALL.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS), "--bundle_root", str(BUNDLE)]
    command += ["--dataset_dir", str(phantoms), "--output_dir", str(tmp_path), *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / sign).exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "metrics.json").exists()
    run(phantoms, tmp_path)
    assert_same_results(finished, tmp_path)
    assert (tmp_path / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()


def test_a_missing_data_set_ends_in_one_sentence(tmp_path):
    with pytest.raises(RuntimeError) as error:
        run(tmp_path / "nowhere", tmp_path / "run", device="cpu")
    assert "nowhere is no folder; correct the path" in user_message(error.value)
