"""A constant image is refused by name wherever an image is read: at inference, in stores, in training, in the check."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from weakmedsam_ext.bundle import user_message
from weakmedsam_ext.data import build_slice_store, build_volume_store, check_dataset, write_nifti

BUNDLES = sorted(path.parent.parent for path in Path(__file__).parents[2].glob("bundles/*/configs/inference.json"))
SHAPE = (12, 10, 6)


def written(folder, name, value):
    array = np.random.default_rng(0).random(SHAPE) if value is None else np.full(SHAPE, value)
    write_nifti(array.astype(np.float32), np.diag([2.0, 2, 2, 1]), folder / f"{name}.nii.gz")
    return str(folder / f"{name}.nii.gz")


def preprocessing(bundle, *configs, name="preprocessing"):
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / f"{config}.json") for config in configs])
    parser.update({"bundle_root": str(bundle), "datalist": [], "dataset_dir": "d", "output_dir": "o", "input_dir": "i"})
    return parser.get_parsed_content(name)


def channels(bundle):
    """Number of files of an image."""
    modalities = json.loads((bundle / "configs" / "inference.json").read_text()).get("modalities")
    return len(modalities) if modalities and "weakmedsam" in bundle.name else 1


def refused(transform, item, path, value):
    with pytest.raises((RuntimeError, ValueError)) as caught:
        transform(item)
    assert user_message(caught.value) == (
        f"{path}: all voxels have the value {value}; export the volume again, or leave the case out."
    )


@pytest.mark.parametrize("value", [0, 7, -1000])
@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_inference_refuses_it(bundle, tmp_path, value):
    transform = preprocessing(bundle, "inference")
    bad = written(tmp_path, "bad", value)
    # the last file of several is named, not the first
    good = [written(tmp_path, f"good{number}", None) for number in range(channels(bundle) - 1)]
    refused(transform, {"image": [*good, bad] if good else bad, "clicks": [[5, 5, 3, 1]]}, bad, value)


@pytest.mark.parametrize("bundle", [one for one in BUNDLES if "promptable" not in one.name], ids=lambda one: one.name)
def test_training_refuses_it_and_takes_empty_masks(bundle, tmp_path):
    transform = preprocessing(bundle, "train")
    bad, mask = written(tmp_path, "bad", 3), written(tmp_path, "mask", 0)
    good = [written(tmp_path, f"good{number}", None) for number in range(channels(bundle))]
    image = good if len(good) > 1 else good[0]
    assert not transform({"image": image, "label": mask})["label"].any()
    refused(transform, {"image": [bad, *good[1:]] if len(good) > 1 else bad, "label": mask}, bad, 3)


@pytest.mark.parametrize(
    "build",
    [
        lambda cases, root: build_slice_store(cases, root, 16, progress=False),
        lambda cases, root: build_slice_store(cases, root, 16, progress=False, window=(-160, 240)),
        lambda cases, root: build_volume_store(cases, root, progress=False),
    ],
    ids=["slices", "slices of a window", "volumes"],
)
def test_stores_refuse_it(build, tmp_path):
    bad = written(tmp_path, "bad", 7)
    refused(lambda cases: build(cases, tmp_path / "store"), [{"case": "bad", "image": bad}], bad, 7)
    assert not list((tmp_path / "store").rglob("*.npy"))


def test_the_check_names_it(tmp_path):
    bad = written(tmp_path, "bad", 7)
    (problem,) = check_dataset([{"case": "bad", "image": bad}], progress=False)
    assert problem.is_error and problem.sentence == (
        f"{bad}: all voxels have the value 7; export the volume again, or leave the case out"
    )


@pytest.mark.parametrize("bright", [1, 2])
def test_an_image_of_a_few_bright_voxels_is_refused_too(tmp_path, bright):
    """Its percentiles are equal, so its scaled voxels would not be in 0..1."""
    array = np.zeros(SHAPE, np.float32)
    array[0, 0, :bright] = 1
    write_nifti(array, np.eye(4), tmp_path / "dark.nii.gz")
    for bundle in BUNDLES:
        if "promptable" in bundle.name or "semisam" in bundle.name:
            with pytest.raises((RuntimeError, ValueError)) as caught:
                preprocessing(bundle, "inference")({"image": str(tmp_path / "dark.nii.gz")})
            assert "dark.nii.gz: the percentiles (0.5, 99.5) of its intensities are both 0; leave" in user_message(
                caught.value
            )
