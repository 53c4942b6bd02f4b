from __future__ import annotations

import io
import json
import zipfile

import pytest
import torch

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.bundle import package_bundle

REQUIRED = ("schema", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "task")
REQUIRED += ("description", "authors", "copyright", "network_data_format")
METADATA = {key: "" for key in REQUIRED} | {"version": "0.2.0", "changelog": {"0.2.0": "more", "0.1.0": "first"}}
INFERENCE = {"network_def": {"_target_": "torch.nn.Linear", "in_features": 3, "out_features": 2}}
LARGE_FILE = {"path": "models/a.pth", "url": "https://example.org/a.pth", "hash_val": "0" * 64, "hash_type": "sha256"}
# what is packed, in the order of the archive
CONTENT = {
    "LICENSE": "Apache-2.0",
    "configs/inference.json": json.dumps(INFERENCE),
    "configs/logging.conf": "[loggers]",
    "configs/metadata.json": json.dumps(METADATA),
    "docs/README.md": "# Toy",
    "docs/figures/a.png": "pixels",
    "large_files.yml": json.dumps({"large_files": [LARGE_FILE]}),  # JSON is YAML
}


@pytest.fixture
def bundle(tmp_path):
    root = tmp_path / "toy_bundle"
    others = (
        "output/models/model.pt",
        "models/a.pth",
        "configs/__pycache__/a.pyc",
        "configs/.hidden",
        "docs/.DS_Store",
    )
    for name, text in {**CONTENT, **dict.fromkeys(others, "stays outside")}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def model(tmp_path):
    torch.save({"model": torch.nn.Linear(3, 2).state_dict()}, tmp_path / "trained.pt")
    return tmp_path / "trained.pt"


def test_it_holds_what_belongs_to_the_bundle_and_nothing_else(bundle, tmp_path):
    with zipfile.ZipFile(package_bundle(bundle, tmp_path / "a.zip")) as archive:
        packed = {name: archive.read(name).decode() for name in archive.namelist()}
    assert packed.pop("toy_bundle/README.md").startswith("---\nlicense: other\nlicense_link: LICENSE\n")
    assert packed == {f"toy_bundle/{name}": text for name, text in CONTENT.items()}


def test_weights_become_a_bare_state_dict(bundle, model, tmp_path):
    with zipfile.ZipFile(package_bundle(bundle, tmp_path / "a.zip", model)) as archive:
        state = torch.load(io.BytesIO(archive.read("toy_bundle/models/model.pt")), weights_only=True)
    trained = torch.load(model, weights_only=True)["model"]
    assert state.keys() == trained.keys() and all(torch.equal(state[key], trained[key]) for key in trained)


def test_the_same_content_gives_the_same_bytes(bundle, model, tmp_path, monkeypatch):
    first = package_bundle(bundle, tmp_path / "a.zip", model)
    (bundle / "LICENSE").touch()
    (bundle / "LICENSE").chmod(0o600)
    monkeypatch.chdir(bundle)  # a relative path gives the name of the bundle as well
    assert package_bundle(".", tmp_path / "b.zip", model).read_bytes() == first.read_bytes()


def without(key):
    return json.dumps({name: value for name, value in METADATA.items() if name != key})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("LICENSE", None, "toy_bundle is no complete bundle, it lacks LICENSE; add what is missing"),
        ("configs/inference.json", None, "it lacks configs/inference.json; add"),
        ("configs/metadata.json", without("task"), "metadata.json lacks task; add them"),
        ("configs/metadata.json", without("changelog"), "metadata.json lacks changelog; add them"),
        ("configs/metadata.json", "{", "metadata.json is no valid JSON .*; restore it"),
        (
            "configs/metadata.json",
            json.dumps({**METADATA, "version": "0.3.0"}),
            "metadata.json: version 0.3.0 is not in the changelog; say there what is new",
        ),
        (
            "large_files.yml",
            json.dumps({"large_files": [{"path": "models/a.pth", "url": "https://example.org/a.pth"}]}),
            "large_files.yml: models/a.pth lacks hash_type, hash_val; add them",
        ),
        ("large_files.yml", "a: b: c", "large_files.yml: expected a list of files under large_files .*; restore it"),
        ("large_files.yml", "large_files: 3", "large_files.yml: expected a list of files under large_files"),
    ],
)
def test_an_incomplete_bundle_is_refused(bundle, tmp_path, capsys, name, text, message):
    (bundle / name).unlink() if text is None else (bundle / name).write_text(text)
    refused(bundle, tmp_path, capsys, message)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "checkpoint .*trained.pt does not exist; correct the path"),
        (torch.nn.Linear(4, 2), "checkpoint .*trained.pt does not fit Linear, nothing was loaded: 1 wrongly shaped"),
    ],
)
def test_weights_of_another_network_are_refused(bundle, tmp_path, capsys, network, message):
    model = tmp_path / "trained.pt"
    if network is not None:
        torch.save(network.state_dict(), model)
    refused(bundle, tmp_path, capsys, message, "--model", str(model))


def refused(bundle, tmp_path, capsys, message, *options):
    """The command line says so in one line, and an older package stays."""
    (tmp_path / "a.zip").write_text("older")
    with pytest.raises((ValueError, OSError), match=message):
        package_bundle(bundle, tmp_path / "a.zip", *options[1:])
    assert main(["package", "--bundle", str(bundle), "--output", str(tmp_path / "a.zip"), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert (tmp_path / "a.zip").read_text() == "older" and not list(tmp_path.glob("*.partial"))


def test_the_command(bundle, model, tmp_path, capsys):
    arguments = ["--bundle", str(bundle), "--output", str(tmp_path / "new" / "a.zip"), "--model", str(model)]
    assert main(["package", *arguments]) == 0
    assert "wrote" in capsys.readouterr().out
    assert "toy_bundle/models/model.pt" in zipfile.ZipFile(tmp_path / "new" / "a.zip").namelist()


def test_the_output_is_a_zip_file(bundle, tmp_path):
    with pytest.raises(ValueError, match="output: expected a file that ends in .zip, but got .*a.tar"):
        package_bundle(bundle, tmp_path / "a.tar")
