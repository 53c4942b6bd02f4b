"""The first stage of every pipeline: a data set with problems ends it before anything is computed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import heart_runs
import nibabel as nib
import numpy as np
import promptable_runs
import pytest
import semisam_runs

from weakmedsam_ext.bundle import Pipeline
from weakmedsam_ext.data import split_dataset

LATER = ["slice_labels", "train"]  # the second stages of the pipelines


@pytest.fixture
def data(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "data")


@pytest.fixture
def stages(monkeypatch):
    """Names of the stages that began; those after the check do nothing."""
    begun = []
    run_once = Pipeline._run_once

    def only_check(self, stage, title):
        begun.append(stage["name"])
        if stage["name"] == "check":
            run_once(self, stage, title)

    monkeypatch.setattr(Pipeline, "_run_once", only_check)
    return begun


def weak(data, output, **settings):
    heart_runs.run(data, output, pretrain=False, backbone="click_net_2d", **settings)


def semi(data, output, **settings):
    semisam_runs.run("semisam_la2018", data, output, **settings)


def promptable(data, output, **settings):
    promptable_runs.run("promptable_pretrain_2d", data, output, **settings)


FOUND = r"error in stage 'check': (a problem in the data set: |\d+ problems in the data set, the first: )"
PIPELINES = [weak, semi, promptable]
NUM_TEST = {weak: 2, semi: 2, promptable: 1}
NUM_FOLDS = {weak: 2, semi: 3, promptable: 2}


def split(data, pipeline):
    return split_dataset(data, NUM_FOLDS[pipeline], num_test=NUM_TEST[pipeline])


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_problems_end_the_pipeline_and_mended_data_goes_on(pipeline, data, tmp_path, stages, caplog):
    caplog.set_level("INFO")
    parts, kept, output = split(data, pipeline), tmp_path / "kept", tmp_path / "run"
    bad = [data / "imagesTr" / f"{parts[part][0]['case']}.nii.gz" for part in ("train", "validation", "test")]
    kept.mkdir()
    for path in bad:
        shutil.copy(path, kept)
        empty(path)
    sentence = rf"^error in stage 'check': 3 problems in the data set, the first: {bad[0]}: is damaged .*; see .*"
    with pytest.raises(SystemExit, match=sentence + f"{output}/check.json.$"):
        pipeline(data, output)
    assert stages == ["check"]
    assert [row["file"] for row in json.loads((output / "check.json").read_text())["problems"]] == list(map(str, bad))
    assert "problem and remedy" in (output / "logs/pipeline.log").read_text()
    assert sorted(path.name for path in output.iterdir()) == ["check.json", "logs", "stages"]

    for path in bad:
        shutil.copy(kept / path.name, path)
    pipeline(data, output)
    assert stages[1] == "check" and stages[2] in LATER
    assert json.loads((output / "check.json").read_text()) == {"problems": []}
    assert "check: finished in" in (output / "logs/pipeline.log").read_text()
    pipeline(data, output)
    assert "check: finished before" in (output / "logs/pipeline.log").read_text()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_setting_switches_it_off(pipeline, data, tmp_path, stages):
    empty(data / "imagesTr/heart_001.nii.gz")
    pipeline(data, tmp_path / "run", check=False)
    assert stages[0] in LATER and not (tmp_path / "run/check.json").exists()


def test_warnings_end_nothing(data, tmp_path, stages, caplog):
    mask = split(data, weak)["train"][0]["label"]
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), mask)
    weak(data, tmp_path / "run")
    assert stages[:2] == ["check", "slice_labels"] and "0 errors, 1 warnings in the data set" in caplog.text


def files_found(pipeline, data, output, **settings):
    """Masks that a pipeline's check has found to be damaged, when all are."""
    for mask in (data / "labelsTr").glob("*.nii.gz"):
        empty(mask)
    with pytest.raises(SystemExit, match=FOUND):
        pipeline(data, output, **settings)
    return {row["file"] for row in json.loads((output / "check.json").read_text())["problems"]}


def test_masks_of_weak_labels_are_those_of_training_and_validation(data, tmp_path):
    parts = split(data, weak)
    expected = {case["label"] for part in ("train", "validation") for case in parts[part]}
    assert files_found(weak, data, tmp_path / "run") == expected


@pytest.mark.parametrize(("controls", "parts"), [(False, ["validation"]), (True, ["train", "validation"])])
def test_masks_of_semi_supervision_are_those_that_it_uses(controls, parts, data, tmp_path):
    cases = split(data, semi)
    expected = {case["label"] for part in parts for case in cases[part]}
    expected |= {str(data / "labelsTr" / f"{name}.nii.gz") for name in semisam_runs.SMALL["labelled"]}
    assert files_found(semi, data, tmp_path / "run", controls=controls) == expected


@pytest.mark.parametrize("finetune", [False, True])
@pytest.mark.parametrize("held_out", [True, False])
def test_masks_of_promptable_networks_are_those_that_it_scores_or_is_tuned_on(finetune, held_out, data, tmp_path):
    """Masks of training and held-out cases are scored where both have some; fine-tuning needs the former alone."""
    parts = split(data, promptable)
    expected = {case["label"] for part in ("train", "test")[: 2 if held_out else finetune] for case in parts[part]}
    if not held_out:
        unlist(data, [case["case"] for case in parts["test"]])
    if expected:
        settings = {"finetune": finetune, "structures": {"left atrium": 1}}
        assert files_found(promptable, data, tmp_path / "run", **settings) == expected


@pytest.mark.parametrize("value", [255, 2, 40])
@pytest.mark.parametrize("name", ["promptable_pretrain_2d", "promptable_pretrain_3d"])
def test_values_of_no_class_end_the_promptable_pipelines_before_the_training(name, value, data, tmp_path, stages):
    for mask in (data / "labelsTr").glob("*.nii.gz"):
        image = nib.load(mask)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8) * value, image.affine), mask)
    with pytest.raises(SystemExit, match=rf"class_map: value 1 of 'left atrium' .* which hold \[0, {value}\]"):
        promptable_runs.run(name, data, tmp_path / "run")
    assert stages == ["check"]


@pytest.mark.parametrize(
    ("structures", "said"),
    [
        ({"vein": 7}, "structures: value 7 of 'vein' occurs in none of"),
        ({"atrium": 1, "vein": [2, 3]}, "structures: value 2, 3 of 'vein' occurs in none"),
        ({"vein": 0}, "structures: "),
    ],
)
def test_structures_that_occur_nowhere_end_before_the_training(structures, said, data, tmp_path, stages):
    with pytest.raises(SystemExit, match=re.escape(said)):
        promptable_runs.run("promptable_pretrain_2d", data, tmp_path / "run", finetune=True, structures=structures)
    assert stages == ["check"]


def test_other_structures_are_checked_again(data, tmp_path, stages):
    promptable_runs.run("promptable_pretrain_2d", data, tmp_path / "run", finetune=True, structures={"atrium": 1})
    with pytest.raises(SystemExit, match="structures: value 7 of 'vein' occurs in none"):
        promptable_runs.run("promptable_pretrain_2d", data, tmp_path / "run", finetune=True, structures={"vein": 7})
    assert stages.count("check") == 2 and stages[-1] == "check"


def unlist(data, cases):
    """Take the masks of cases out of dataset.json."""
    listing = json.loads((data / "dataset.json").read_text())
    for entry in listing["training"]:
        if any(case in entry["image"] for case in cases):
            del entry["label"]
    (data / "dataset.json").write_text(json.dumps(listing))


@pytest.mark.parametrize(
    ("pipeline", "settings"),
    [(weak, {"labels_csv": "labels.csv"}), (promptable, {})],
    ids=["weak with CSV", "promptable without scores"],
)
def test_no_mask_is_opened_where_none_is_needed(pipeline, settings, data, tmp_path, stages):
    if pipeline is promptable:
        unlist(data, [case["case"] for case in split(data, promptable)["test"]])
    for mask in (data / "labelsTr").glob("*.nii.gz"):
        empty(mask)
    pipeline(data, tmp_path / "run", **settings)
    assert stages[0] == "check" and stages[1] in LATER
    record = json.loads((tmp_path / "run/stages/check.json").read_text())["record"]["inputs"]
    assert len(record) == 8 and all(name.startswith("imagesTr/") for name in record)


def check_alone(data, output, processes):
    """Run the stage by MONAI's command line, under torchrun if there is more than one process."""
    root = heart_runs.BUNDLE
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(root / "configs/check.json")]
    settings = {"bundle_root": root, "dataset_dir": data, "output_dir": output, "num_folds": 2, "num_test": 2}
    command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(data, tmp_path):
    parts = split(data, weak)
    first, *_, last = (case["case"] for case in parts["train"])
    shutil.copy(data / f"imagesTr/{first}.nii.gz", data / f"imagesTr/{last}.nii.gz")
    empty(data / f"imagesTr/{parts['test'][0]['case']}.nii.gz")
    mask = nib.load(parts["validation"][0]["label"])
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), parts["validation"][0]["label"])
    for processes in (1, 2):
        done = check_alone(data, tmp_path / str(processes), processes)
        assert done.returncode and " problems in the data set, the first: " in done.stderr, done.stderr[-6000:]
        assert (done.stdout + done.stderr).count("problem and remedy") == 1  # one table
    one, two = (json.loads((tmp_path / name / "check.json").read_text())["problems"] for name in "12")
    assert one == two
    found = " ".join(row["what"] for row in one)
    assert all(words in found for words in ("same voxels", "is damaged", "no voxel of the mask has a label"))
