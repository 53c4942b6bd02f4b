"""The bundles as their users run them, on a GPU, in mixed precision where that is the default."""

from __future__ import annotations

import json

import heart_runs
import nibabel as nib
import promptable_runs
import pytest
import semisam_runs
import torch

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def check(output):
    metrics = json.loads((output / "metrics.json").read_text())
    for case in metrics["cases"]:
        assert nib.load(output / "predictions" / f"{case}.nii.gz").shape == (32, 36, 8)


@pytest.mark.parametrize("method", semisam_runs.METHODS)
@pytest.mark.parametrize("bundle", semisam_runs.BUNDLES)
def test_semi_supervised_training_and_sliding_windows(bundle, method, phantoms, tmp_path):
    helpers = [semisam_runs.GENERALIST]
    settings = {"method": method, "generalists": helpers, "num_clicks": 2, "device": "cuda:0"}
    semisam_runs.run(bundle, phantoms, tmp_path, **settings)
    check(tmp_path)
    weights = torch.load(tmp_path / "models/model.pt", weights_only=True, map_location="cpu")
    assert all(value.isfinite().all() for value in weights.values())


def test_windows_on_a_gpu_say_what_they_say_on_the_cpu(phantoms, tmp_path):
    semisam_runs.run("semisam_la2018", phantoms, tmp_path)
    for device in ("cpu", "cuda:0"):
        semisam_runs.workflow(
            "semisam_la2018",
            "inference.json",
            phantoms,
            tmp_path,
            ckpt_path=str(tmp_path / "models/model.pt"),
            prediction_dir=str(tmp_path / device.replace(":", "_")),
            datalist=sorted(str(path) for path in phantoms.glob("imagesTr/*.nii.gz")),
            device=torch.device(device),
        ).run()
    cases = [path.name for path in (tmp_path / "cpu").glob("*.nii.gz")]
    masks = [[nib.load(tmp_path / folder / case).get_fdata() for case in cases] for folder in ("cpu", "cuda_0")]
    differ = sum((one != other).sum() for one, other in zip(*masks, strict=True))
    assert len(cases) == 8 and differ <= 0.01 * sum(mask.size for mask in masks[0])  # TF32 moves a few voxels


@pytest.mark.parametrize("name", promptable_runs.SMALL)
def test_promptable_pre_training(name, phantoms, tmp_path):
    promptable_runs.run(name, phantoms, tmp_path, device="cuda:0")
    assert (tmp_path / "models").is_dir()


def test_from_slice_labels_to_a_segmenter(phantoms, tmp_path):
    heart_runs.run(phantoms, tmp_path, device="cuda:0")
    check(tmp_path)
