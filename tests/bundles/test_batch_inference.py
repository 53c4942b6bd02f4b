"""A folder of images into a folder of masks: cut, started again, with other weights, and shared between processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from installed_bundles import BUNDLES, install
from monai.bundle import ConfigWorkflow

NAME = "weakmedsam_brats2019"
FILES = ("inference.json", "batch_inference.json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    source = next(path for path in BUNDLES if path.name == NAME)
    return install(source, tmp_path_factory.mktemp("installed")).root


@pytest.fixture
def images(phantoms, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((phantoms / "imagesTr").glob("*.nii.gz"))[:3]:
        shutil.copy(path, folder)
    return folder


def settings(bundle, images, output):
    return {"bundle_root": str(bundle), "input_dir": str(images), "output_dir": str(output), "roi_size": 32}


def segment(bundle, images, output):
    workflow = ConfigWorkflow(
        config_file=[str(bundle / "configs" / name) for name in FILES],
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="inference",
        **settings(bundle, images, output),
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return {path.name: path.stat().st_mtime_ns for path in (output / "predictions").glob("*.nii.gz")}


def test_finished_cases_are_skipped_and_others_are_made(bundle, images, tmp_path):
    output, copy = tmp_path / "out", tmp_path / NAME
    shutil.copytree(bundle, copy)
    first = segment(copy, images, output)
    names = sorted(first)
    assert names == sorted(path.name for path in images.iterdir())
    assert nib.load(output / "predictions" / names[0]).shape == (32, 36, 8)
    assert segment(copy, images, output) == first  # nothing left to do

    (output / "predictions" / names[0]).unlink()  # as if the run had been cut before
    shutil.copy(images / names[2], images / names[1])  # another image of the same name
    second = segment(copy, images, output)
    assert [name for name in names if second[name] != first[name]] == names[:2]

    weights = torch.load(copy / "models" / "model.pt", weights_only=True)
    torch.save({key: value + 0.01 for key, value in weights.items()}, copy / "models" / "model.pt")
    third = segment(copy, images, output)
    assert all(third[name] != second[name] for name in names)


def test_masks_of_others_are_not_replaced(bundle, images, tmp_path):
    name = next(images.iterdir()).name
    (tmp_path / "out" / "predictions").mkdir(parents=True)
    shutil.copy(images / name, tmp_path / "out" / "predictions" / name)
    with pytest.raises(Exception, match="Failed to evaluate") as raised:
        segment(bundle, images, tmp_path / "out")
    assert "was not written by this command; move it away" in causes(raised.value)
    with pytest.raises(Exception, match="Failed to evaluate") as raised:
        segment(bundle, images, images / "out")
    assert "masks would be taken for images" in causes(raised.value)


def causes(error):
    found = []
    while error is not None:
        found.append(str(error))
        error = error.__cause__
    return " ".join(found)


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(bundle, images, tmp_path):
    one = segment(bundle, images, tmp_path / "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command += ["monai.bundle", "run", "--config_file", str([str(bundle / "configs" / name) for name in FILES])]
    command += [
        part for key, value in settings(bundle, images, tmp_path / "two").items() for part in (f"--{key}", str(value))
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    record, other = (
        json.loads((tmp_path / where / "predictions" / "batch_inference.json").read_text()) for where in ("one", "two")
    )
    assert record["cases"] == other["cases"] and len(record["cases"]) == 3
    assert {path.name for path in (tmp_path / "two" / "predictions").glob("*.nii.gz")} == set(one)
    for name in one:
        masks = [np.asarray(nib.load(tmp_path / where / "predictions" / name).dataobj) for where in ("one", "two")]
        np.testing.assert_array_equal(*masks)
