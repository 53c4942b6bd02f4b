"""The brain bundle with two modalities as channels, end to end, and what its settings of the maps change."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from test_stale_results import stages_run

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import list_cases, write_phantoms

pytestmark = pytest.mark.slow  # whole pipelines

BUNDLE = Path(__file__).parents[2] / "bundles" / "weakmedsam_brats2019"
MODALITIES = ["flair", "t1ce"]
SMALL = {
    "modalities": MODALITIES,
    "img_size": 64,
    "walk_size": 16,
    "roi_size": 64,
    "pixel_size": None,
    "num_folds": 3,
    "fold": 0,
    "num_test": 2,
    "num_subclasses": 2,
    "cam_epochs": 1,
    "cam_scales": [1.0],
    "train_epochs": 1,
    "device": "cpu",
}


def run(folder, **settings):
    where = {"bundle_root": str(BUNDLE), "dataset_dir": str(folder / "data"), "output_dir": str(folder / "run")}
    training_workflow(BUNDLE / "configs", "pipeline.json", **where, **{**SMALL, **settings}).run()


def test_two_modalities_are_two_channels_of_every_stage(tmp_path, caplog):
    write_phantoms(tmp_path / "data", num_cases=7, size=(40, 48, 12), layout="brats2019", progress=False)
    run(tmp_path)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    cases = {case["case"]: case for case in list_cases(tmp_path / "data", modalities=MODALITIES)}
    assert len(metrics["cases"]) == 2 and set(metrics["cases"]) < set(cases)
    for name in metrics["cases"]:
        (path,) = (tmp_path / "run/predictions").glob(f"{name}*.nii.gz")
        image, mask = nib.load(cases[name]["image"][0]), nib.load(path)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    weights = torch.load(tmp_path / "run/models/model.pt", weights_only=True)
    first = next(value for value in weights.values() if value.ndim == 4)
    assert first.shape[1] == 2
    check_settings_of_the_maps(tmp_path, caplog)


def check_settings_of_the_maps(folder, caplog):
    """Mirrored maps are a matter of the pseudo-labels; turned slices, one of the classifier's training."""
    before = masks(folder)
    ran = stages_run(lambda: run(folder, cam_flip=False), caplog)
    assert list(ran)[:2] == ["cam_labels", "pseudo_label"] and ran["cam_labels"] == "cam_flip changed: true -> false"
    assert masks(folder) != before
    classifier = (folder / "run/models/cam.pt").read_bytes()
    ran = stages_run(lambda: run(folder, cam_flip=False, cam_affine=0.0), caplog)
    assert next(iter(ran)) == "train_cam" and "cam_affine changed: 1 -> 0" in ran["train_cam"]
    assert (folder / "run/models/cam.pt").read_bytes() != classifier


def masks(folder):
    return {path.name: path.read_bytes() for path in (folder / "run/cam_labels").glob("*.nii.gz")}
