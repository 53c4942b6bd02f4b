"""A bundle for a user's own data: created, run to its end, packed with its weights, downloaded and served."""

from __future__ import annotations

import json
import shutil

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from semisam_runs import SMALL

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.bundle import create_bundle, package_bundle, training_workflow
from weakmedsam_ext.data import write_phantoms

pytestmark = pytest.mark.slow  # whole pipelines

OWN = {key: SMALL[key] for key in SMALL if key not in ("class_map", "device", "labelled")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A bundle by `create`, and its finished run with other settings than those in its bundle.json."""
    folder = tmp_path_factory.mktemp("own")
    write_phantoms(folder / "data", num_cases=8, size=(32, 36, 8), progress=False)
    settings = {**OWN, "method": "supervised", "epochs": 1, "spacing": 3.0}
    bundle = create_bundle("semisam", folder / "heart", folder / "data", {"atrium": 1}, settings)
    assert len((bundle / "bundle.json").read_text().splitlines()) < 100
    overrides = {"bundle_root": str(bundle), "output_dir": str(folder / "run"), "device": "cpu"}
    run = training_workflow(
        bundle / "configs", "pipeline.json", **overrides, spacing=2.5, channels=3, method="mean_teacher"
    )
    run.run()
    return folder


@pytest.fixture
def hub(trained, tmp_path):
    """What a user downloads."""
    package = tmp_path / "packed.zip"
    command = ["package", "--bundle", str(trained / "heart"), "--run", str(trained / "run"), "--output", str(package)]
    assert main(command) == 0
    monai.bundle.download(name="heart", url=package.as_uri(), bundle_dir=str(tmp_path / "hub"), progress=False)
    return tmp_path / "hub"


def test_weights_come_with_the_settings_that_made_them(trained, hub):
    for name in ("inference", "train"):
        config = json.loads((hub / "heart/configs" / f"{name}.json").read_text())
        assert config["spacing"] == 2.5 and config["channels"] == 3 and config["class_map"] == {"atrium": 1}
    pipeline = json.loads((hub / "heart/configs/pipeline.json").read_text())
    assert pipeline["method"] == "mean_teacher" and str(pipeline["amp"]).startswith("$")
    bundle = json.loads((hub / "heart/bundle.json").read_text())
    assert bundle["settings"]["spacing"] == 2.5 and json.loads((trained / "heart/bundle.json").read_text()) != bundle


def test_the_downloaded_bundle_segments_as_the_run_did(trained, hub, tmp_path):
    loaded = monai.bundle.load("heart", bundle_dir=str(hub), workflow_type="inference", device="cpu")
    weights = torch.load(trained / "run/models/model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())
    expected = sorted((trained / "run/predictions").glob("*.nii.gz"))
    workflow = ConfigWorkflow(
        workflow_type="inference",
        config_file=str(hub / "heart/configs/inference.json"),
        meta_file=str(hub / "heart/configs/metadata.json"),
        logging_file=False,
        bundle_root=str(hub / "heart"),
        output_dir=str(tmp_path / "out"),
        datalist=[str(trained / "data/imagesTr" / path.name) for path in expected],
        device="cpu",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    for path in expected:
        masks = [np.asarray(nib.load(file).dataobj) for file in (path, tmp_path / "out/predictions" / path.name)]
        np.testing.assert_array_equal(*masks)


def test_a_model_alone_is_packed_with_its_settings_too(trained, tmp_path):
    """They lie beside it; without them, the bundle's own are taken and must fit the weights."""
    model = trained / "run/models/model.pt"
    package_bundle(trained / "heart", tmp_path / "a.zip", model)
    shutil.copy(model, tmp_path / "bare.pt")
    with pytest.raises(ValueError, match="bare.pt does not fit BasicUNet"):
        package_bundle(trained / "heart", tmp_path / "b.zip", tmp_path / "bare.pt")


def test_inference_refuses_weights_of_other_settings(trained, tmp_path):
    def infer(**settings):
        where = {"bundle_root": str(trained / "heart"), "ckpt_dir": str(trained / "run/models"), "device": "cpu"}
        images = [str(next((trained / "data/imagesTr").glob("*.nii.gz")))]
        config = {**where, "output_dir": str(tmp_path), "datalist": images, "channels": 3, **settings}
        training_workflow(trained / "heart/configs", "inference.json", **config).run()

    with pytest.raises(RuntimeError) as error:  # the bundle's default
        infer()
    assert "was trained with spacing 2.5, but this run has 3.0; give --spacing 2.5, or" in str(error.value.__cause__)
    assert not (tmp_path / "predictions").exists()
    infer(spacing=2.5, stride=[32, 32, 16])
