"""Bad input ends in one sentence that names the file and the remedy, and costs nothing that was written before."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from heart_runs import BUNDLE, SMALL, run
from monai.networks.nets import UNet

from weakmedsam_ext.bundle import Pipeline, user_message
from weakmedsam_ext.data import SliceStudy, write_phantoms

CLASS_MAP = {"left atrium": 1}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, num_cases=6, size=(32, 36, 8), progress=False)
    return folder


@pytest.fixture(scope="module")
def clustered(phantoms, tmp_path_factory):
    """Output of a run after its first stage, and weights and a prediction such as later stages leave."""
    output = tmp_path_factory.mktemp("clustered")
    stages = [
        {"name": "slice_labels", "config": ["slice_labels"], "outputs": ["slice_labels.json"]},
        {"name": "cluster", "config": ["cluster"], "outputs": ["subclasses.json"]},
    ]
    names = ("img_size", "num_folds", "num_test", "num_subclasses", "device")
    settings = {name: SMALL[name] for name in names} | {"backbone": "click_net_2d", "dataset_dir": str(phantoms)}
    Pipeline(BUNDLE / "configs", output, stages, settings).run()
    (output / "models").mkdir()
    network = UNet(2, 1, 2, (16, 32, 64, 128, 256), (2, 2, 2, 2), num_res_units=2)
    torch.save(network.state_dict(), output / "models" / "model.pt")
    return output


@pytest.fixture
def data(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "data")


@pytest.fixture
def output(clustered, tmp_path):
    return shutil.copytree(clustered, tmp_path / "out")


def split(data, part):
    study = SliceStudy(data, data, CLASS_MAP, num_folds=SMALL["num_folds"], num_test=SMALL["num_test"])
    return study.split[part]


def hashes(folder):
    """Of all files but logs and records, which every run writes; what is replaced is kept in another place."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    files = [path for path in files if path.parent.name != "stages" and path.name != "hashes.json"]
    return {hashlib.sha256(path.read_bytes()).digest(): path.name for path in files}


def unfinished(folder):
    return [path.name for path in folder.rglob("*") if "partial" in path.name]


def change(path, array=lambda values: values, affine=lambda matrix: matrix):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(array(np.asarray(image.dataobj, dtype=np.float32)), affine(image.affine)), path)


def with_nan(values):
    values[3, 4, 2] = np.nan
    return values


# how the input is spoilt (data folder, paths of image and mask of a training case), and the sentence


def missing_file(data, image, mask):
    image.unlink()


def truncated_file(data, image, mask):
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])


def no_medical_file(data, image, mask):
    image.write_text("<html>404 not found</html>")


def nan_voxels(data, image, mask):
    change(image, array=with_nan)


def other_shape(data, image, mask):
    change(mask, array=lambda values: values[:, :, :-1])


def other_affine(data, image, mask):
    change(mask, affine=lambda matrix: matrix + np.diag([0.5, 0, 0, 0]))


def empty_list(data, image, mask):
    listing = data / "dataset.json"
    listing.write_text(json.dumps({**json.loads(listing.read_text()), "training": []}))


def no_positive_slice(data, image, mask):
    for path in (data / "labelsTr").glob("*.nii.gz"):
        change(path, array=np.zeros_like)


def nothing(data, image, mask):
    pass


def other_network(data, image, mask):
    torch.save(UNet(2, 1, 2, (4, 8), (2,)).state_dict(), data / "unet.pt")


BAD = [
    (missing_file, {}, r"1 files that .*dataset.json lists are missing \({image}\); put them there, or take"),
    (truncated_file, {}, "{image} is damaged or no medical volume .*; download, export or compute it again"),
    (no_medical_file, {}, "{image} is damaged or no medical volume .*; download, export or compute it again"),
    (nan_voxels, {}, "{image}: 1 voxels are NaN or infinite; replace them, or export the volume again"),
    (other_shape, {}, r"{mask}: expected the shape \(32, 36, 8\) of {image}, but got \(32, 36, 7\); resample the mask"),
    (other_affine, {}, "{mask}: its affine differs from that of {image} by up to 0.5; resample the mask"),
    (empty_list, {}, r"dataset.json: expected a list of cases under 'training', but got \[\]; dataset_dir must be"),
    (no_positive_slice, {}, "class_map: .'left atrium'. occur in no slice of 4 masks .*labelsTr"),
    (nothing, {"class_map": {"aorta": 7}}, r"class_map: \['aorta'\] occur in no slice of 4 masks"),
    (
        other_network,
        {"checkpoint": "{data}/unet.pt"},
        "checkpoint {data}/unet.pt does not fit ClickNet, .*Give the",
    ),
]


@pytest.mark.parametrize(("spoil", "settings", "sentence"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_bad_input(data, output, spoil, settings, sentence):
    case = split(data, "train")[0]
    image, mask = data / "imagesTr" / f"{case['case']}.nii.gz", data / "labelsTr" / f"{case['case']}.nii.gz"
    spoil(data, image, mask)
    (output / "slice_labels.json").unlink()  # masks are opened again
    before = hashes(output)
    settings = {key: value.format(data=data) if isinstance(value, str) else value for key, value in settings.items()}
    with pytest.raises((SystemExit, RuntimeError)) as caught:
        # the stages find it themselves too, for who runs them alone
        run(data, output, pretrain=False, backbone="click_net_2d", check=False, **settings)
    # what is wrong with the list of cases is found before the first stage
    message = str(caught.value) if caught.type is SystemExit else user_message(caught.value)
    assert re.search(sentence.format(data=data, image=image, mask=mask), message) and "\n" not in message.strip()
    assert hashes(output).items() >= before.items() and unfinished(output) == []


# what only the last stages meet


def predict(output, *images):
    """Run the stage that segments held-out volumes."""
    stage = {"name": "predict", "config": ["inference"], "outputs": ["predictions"]}
    settings = {"ckpt_dir": str(output / "models"), "datalist": list(map(str, images)), "roi_size": 32, "device": "cpu"}
    Pipeline(BUNDLE / "configs", output, [stage], settings).run()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (missing_file, "{image} does not exist; correct the path, or put the file there"),
        (truncated_file, "{image} is damaged or no medical volume .*; download, export or compute it again"),
        (no_medical_file, "{image} is damaged or no medical volume .*; download, export or compute it again"),
        (nan_voxels, "{image}: 1 voxels are NaN or infinite; replace them, or export the volume again"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_volume_to_segment(data, output, spoil, sentence):
    good, bad = (Path(case["image"]) for case in split(data, "test"))
    spoil(data, bad, None)
    before = hashes(output)
    with pytest.raises(SystemExit, match="^error in stage 'predict': " + sentence.format(image=bad)):
        predict(output, good, bad)
    assert hashes(output).items() >= before.items() and unfinished(output) == []
    assert nib.load(output / "predictions" / good.name).shape == nib.load(good).shape


def test_weights_of_another_network(data, output):
    torch.save(UNet(2, 1, 2, (4, 8), (2,)).state_dict(), output / "models" / "model.pt")
    with pytest.raises(
        SystemExit, match="^error in stage 'predict': checkpoint .*model.pt does not fit UNet, .*Give the"
    ):
        predict(output, split(data, "test")[0]["image"])
    assert not (output / "predictions").exists()


# a full disk, which every writer meets half-way


def fill_disk(monkeypatch, function, position):
    """Let a function that writes to an open file or a path stop with a full disk after a few bytes."""

    def write(*arguments, **_):
        target = arguments[position]
        if hasattr(target, "write"):
            target.write(b"half a file")
        else:
            Path(target).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(function, write)


@pytest.mark.parametrize(
    ("function", "position", "file"),
    [("numpy.save", 0, "slices/.*.npy"), ("torch.save", 1, "checkpoints/train_cam.pt")],
)
def test_full_disk(data, output, monkeypatch, function, position, file):
    shutil.rmtree(output / "slices")
    before = hashes(output)
    fill_disk(monkeypatch, function, position)
    with pytest.raises(
        SystemExit, match=f"no space is left on the disk for {output}/{file}; free some and run the same"
    ):
        run(data, output, pretrain=False, backbone="click_net_2d")
    assert before and hashes(output).items() >= before.items() and unfinished(output) == []


def test_full_disk_while_predictions_are_written(data, output, monkeypatch):
    first, second = (Path(case["image"]) for case in split(data, "test"))
    predict(output, first)
    before = hashes(output)
    fill_disk(monkeypatch, "nibabel.save", 1)
    with pytest.raises(SystemExit, match=f"disk for {output}/predictions/{second.name}; free some and run the same"):
        predict(output, second)
    assert hashes(output).items() >= before.items() and unfinished(output) == []
    monkeypatch.undo()
    predict(output, second)
    assert nib.load(output / "predictions" / second.name).shape == nib.load(second).shape


def test_a_stage_alone_says_it_in_one_sentence_too(data, output):
    image = Path(split(data, "test")[0]["image"])
    truncated_file(data, image, None)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / "inference.json")]
    command += ["--bundle_root", str(BUNDLE), "--output_dir", str(output), "--ckpt_dir", str(output / "models")]
    done = subprocess.run([*command, "--datalist", str([str(image)])], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {image} is damaged or no medical volume")
    assert "Traceback" not in done.stdout + done.stderr
