"""Every bundle works alone: zipped and downloaded, checked as the model zoo checks it, and driven as MONAI Label does.

The zoo's checks are those of its ci/verify_bundle.py in mode "full". A new bundle is found by its folder; it is tested
with the settings of `SMALL` if its own are too large for a test.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from installed_bundles import BUNDLES, SAID, install, network_input, read, shorten
from interrupted import interrupted_after_one_epoch
from metadata_schema import SCHEMA
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, verify_metadata, verify_net_in_out
from monai.data import load_net_with_metadata
from monai.transforms import SaveImaged

from weakmedsam_ext.data import decathlon_cases, write_phantoms

# as in the zoo's exclude_verify_torchscript_list and exclude_verify_onnx_list: the work depends on the number of clicks
NOT_EXPORTED = {"promptable_pretrain_2d", "promptable_pretrain_3d"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, num_cases=5, size=(32, 36, 8), progress=False)
    return [{"image": case["image"], "label": case["label"]} for case in decathlon_cases(folder)]


@pytest.fixture(scope="module")
def volume(phantoms, tmp_path_factory):
    """A phantom whose axes run the other way than those of the training data, with an oblique affine."""
    image = nib.load(phantoms[0]["image"])
    array = np.asarray(image.dataobj)[::-1, :, ::-1]
    affine = image.affine @ np.diag([-1.0, 1.0, -1.0, 1.0])
    turn = np.deg2rad(5)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]] @ affine[:2, :2]
    affine[:3, 3] = [11.0, -7.0, 3.0]
    path = tmp_path_factory.mktemp("volume") / "patient 7.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.name)
def installed(request, tmp_path_factory):
    """A bundle as a user gets it: packaged with fresh weights, downloaded from a URL, its network beside it."""
    return install(request.param, tmp_path_factory.mktemp("installed"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test may work because it runs in the bundle's folder."""
    monkeypatch.chdir(tmp_path)


def files(bundle):
    configs = bundle.root / "configs"
    return {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}


# alone, from another directory


def test_download_and_load_give_the_trained_network(installed):
    loaded = monai.bundle.load(installed.name, bundle_dir=str(installed.hub), workflow_type="inference", device="cpu")
    image = network_input(installed.meta)
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(image), installed.network(image), rtol=0, atol=0)


def test_inference_runs_from_another_directory_and_agrees_with_monai_label(
    installed, volume, tmp_path, tmp_path_factory
):
    said = SAID.get(installed.name, {})
    workflow = ConfigWorkflow(
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(installed.root),
        output_dir=str(tmp_path / "out"),
        datalist=[str(volume)],
        device="cpu",
        **in_files(said, volume, tmp_path_factory),
        **files(installed),
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()
    workflow.finalize()
    image, mask = nib.load(volume), nib.load(tmp_path / "out" / "predictions" / volume.name)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    expected = monai_label_infers(installed.root, {"image": str(volume), **said})
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    assert 0 < (expected > 0).mean() < 1  # random weights call something foreground, else this test would see nothing
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def in_files(said, volume, tmp_path_factory):
    """What is said about a volume, as the settings of inference.json take it: in files."""
    folder = tmp_path_factory.mktemp("said")
    for name, content in said.items():
        (folder / f"{name}.json").write_text(json.dumps({volume.name: content}))
    return {name: str(folder / f"{name}.json") for name in said}


# as MONAI Label 0.8.5 does it (monailabel/tasks/infer/bundle.py and train/bundle.py)


def monai_label_infers(bundle, data):
    """Mask of a volume, and what is said about it, as MONAI Label gets it from a bundle that it serves."""
    parser = read(bundle, "inference")
    network = parser.get_parsed_content("network_def", instantiate=True)
    checkpoint = torch.load(bundle / "models" / "model.pt", weights_only=True)
    network.load_state_dict(checkpoint.get("model", checkpoint))
    parser.config["device"] = "cpu"
    data = {**data, "image_path": data["image"]}  # a text, beside the image
    for transform in parser.get_parsed_content("preprocessing", instantiate=True).transforms:
        data = transform(data)
    inferer = parser.get_parsed_content("inferer", instantiate=True)
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None], network.eval())[0]
    for transform in parser.get_parsed_content("postprocessing", instantiate=True).transforms:
        data = data if isinstance(transform, SaveImaged) else transform(data)
    assert data["pred"].shape[0] == 1 and data["pred"].dtype == torch.uint8
    return data["pred"][0].cpu().numpy()


def monai_label_trains(bundle, items, max_epochs):
    """Train on items of "image" and "label" with the overrides that MONAI Label gives, those and no others."""
    handlers = read(bundle, "train").get("train#handlers", [])
    model = bundle / "models" / "model.pt"
    loader = {"_target_": "CheckpointLoader", "load_path": str(model), "load_dict": {"model": "$@network"}}
    overrides = {
        "bundle_root": str(bundle),
        "train#trainer#max_epochs": max_epochs,
        "train#dataset#data": items[:-1],
        "validate#dataset#data": items[-1:],
        "train#handlers": [{**loader, "strict": False}, *handlers],
        "device": "cpu",
    }
    monai.bundle.run(
        run_id="run",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        **overrides,
    )
    return torch.load(model, weights_only=True)


@pytest.mark.slow
def test_monai_label_trains_what_it_serves_and_goes_on_with_more_labels(installed, phantoms, tmp_path):
    app = tmp_path / "app" / "model" / installed.name
    shutil.copytree(installed.root, app)
    shorten(app)
    start = installed.network.state_dict()
    first = monai_label_trains(app, phantoms[:3], max_epochs=2)  # more than the config's own number
    second = monai_label_trains(app, phantoms, max_epochs=1)
    for before, after in ((start, first), (first, second)):
        moved = [key for key in before if not torch.equal(before[key], after[key])]
        assert before.keys() == after.keys() and len(moved) > len(before) / 2
    # the second training started from the first one's weights: one epoch from fresh ones would lie farther away
    assert distance(first, second) < distance(start, second)
    assert [path.name for path in tmp_path.iterdir()] == ["app"]


@pytest.mark.slow
def test_monai_label_stops_and_trains_again_with_other_epochs_and_more_labels(installed, phantoms, tmp_path):
    """Epochs before the stop are not lost: the next training starts from their weights."""
    app = tmp_path / "app" / "model" / installed.name
    shutil.copytree(installed.root, app)
    shorten(app)
    with interrupted_after_one_epoch():
        monai_label_trains(app, phantoms[:3], max_epochs=3)
    stopped = torch.load(app / "models" / "model.pt", weights_only=True)
    assert any(not torch.equal(value, stopped[key]) for key, value in installed.network.state_dict().items())
    after = monai_label_trains(app, phantoms, max_epochs=1)
    assert distance(stopped, after) < distance(installed.network.state_dict(), after)
    assert (app / "models" / "model.previous.pt").exists()


@pytest.mark.slow
def test_semi_supervised_training_finds_the_unlabelled_images_of_the_study_folder(installed, phantoms, tmp_path):
    """MONAI Label gives a training its labelled images alone; the others lie beside them."""
    if not installed.name.startswith("semisam"):
        pytest.skip("this bundle does not learn from images without a label")
    app, studies = tmp_path / "app" / "model" / installed.name, tmp_path / "studies"
    shutil.copytree(installed.root, app)
    shorten(app)
    (studies / "labels" / "final").mkdir(parents=True)
    items = []
    for number, item in enumerate(phantoms[:4]):
        image = shutil.copy(item["image"], studies)
        if number < 2:
            items.append({"image": image, "label": shutil.copy(item["label"], studies / "labels" / "final")})
    monai_label_trains(app, items, max_epochs=1)
    inputs = json.loads((app / "models" / "model.json").read_text())["inputs"]
    assert {Path(name).name for name in inputs} == {Path(item["image"]).name for item in phantoms[:4]}


def distance(one, other):
    return sum(float((one[key].float() - other[key].float()).square().sum()) for key in one)


# as the model zoo does it


def test_zoo_files(installed):
    for name in ("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md"):
        assert (installed.root / name).stat().st_size > 0, name
    assert "licence" in (installed.root / "docs" / "data_license.txt").read_text()
    assert isinstance(torch.load(installed.root / "models" / "model.pt", weights_only=True), dict)


def test_zoo_large_files_are_named_with_their_hashes(installed):
    """The zoo hands every entry to monai.apps.download_url, with "path" as the file below the bundle."""
    listing = installed.root / "large_files.yml"
    if not listing.exists():
        pytest.skip("this bundle needs no large file")
    for entry in ConfigParser.load_config_file(listing)["large_files"]:
        assert entry.keys() == {"path", "url", "hash_val", "hash_type"}
        assert entry["path"].startswith("models/") and entry["url"].startswith("https://")
        assert entry["hash_type"] == "sha256" and len(entry["hash_val"]) == 64


def test_zoo_version_is_in_the_change_log(installed):
    assert installed.meta["changelog"][installed.meta["version"]]


def test_zoo_installs_what_the_metadata_requires(installed):
    """The zoo runs pip with name==version of each, so the names must be those of distributions."""
    required = installed.meta["required_packages_version"]
    assert all(version(name) for name in required)
    assert required["weakmedsam_ext"] == version("weakmedsam_ext")


def test_zoo_metadata_follow_the_schema(installed, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    assert installed.meta["schema"] == "https://project-monai.github.io/schema/meta_schema_20240725.json"
    assert all(isinstance(value, float) for value in installed.meta["eval_metrics"].values())
    verify_metadata(meta_file=files(installed)["meta_file"], filepath=str(schema))
    for key, value in (("version", 1), ("network_data_format", {"inputs": {}}), ("references", [1])):
        (tmp_path / "bad.json").write_text(json.dumps({**installed.meta, key: value}))
        with pytest.raises(ValueError, match="Failed validating"):
            verify_metadata(meta_file=str(tmp_path / "bad.json"), filepath=str(schema))


def test_zoo_network_takes_and_gives_what_the_metadata_say(installed):
    """With the defaults of verify_net_in_out: the smallest input that the metadata allow."""
    verify_net_in_out(net_id="network_def", bundle_root=str(installed.root), device="cpu", **files(installed))


def test_zoo_properties(installed):
    workflow = monai.bundle.create_workflow(
        workflow_type="inference",
        bundle_root=str(installed.root),
        logging_file=str(installed.root / "configs" / "logging.conf"),
        **files(installed),
    )
    assert workflow.check_properties() == []
    assert isinstance(installed.meta["supported_apps"], dict)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch 2.13 announces the end of TorchScript; MONAI still exports it
def test_zoo_export_to_torchscript(installed, tmp_path):
    """As the zoo calls it, without a key into the checkpoint."""
    if installed.name in NOT_EXPORTED:
        pytest.skip("this network is not exported")
    script = tmp_path / "model.ts"
    ckpt_export(
        net_id="network_def",
        filepath=str(script),
        ckpt_file=str(installed.root / "models" / "model.pt"),
        bundle_root=str(installed.root),
        **files(installed),
    )
    exported, meta, extra = load_net_with_metadata(str(script), more_extra_files=("inference.json",))
    image = network_input(installed.meta)
    with torch.no_grad():
        torch.testing.assert_close(exported.eval()(image), installed.network(image), rtol=1e-5, atol=1e-5)
    assert meta["version"] == installed.meta["version"] and "network_def" in json.loads(extra["inference.json"])


@pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxscript")), reason="needs onnx and onnxscript")
def test_export_to_onnx(installed, tmp_path):
    if installed.name in NOT_EXPORTED:
        pytest.skip("this network is not exported")
    onnx_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.onnx"),
        ckpt_file=str(installed.root / "models" / "model.pt"),
        input_shape=list(network_input(installed.meta).shape),
        bundle_root=str(installed.root),
        **files(installed),
    )
    assert (tmp_path / "model.onnx").stat().st_size > 0
