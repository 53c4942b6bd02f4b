from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from weakmedsam_ext.bundle import check_bundle, package_bundle
from weakmedsam_ext.bundle.model_card import model_card

BUNDLES = Path(__file__).parents[2] / "bundles"
TAGS = {"promptable_pretrain_2d": ["promptable"], "weakmedsam_abdomenct1k": ["weakmedsam", "ct"]}


@pytest.mark.parametrize("name", sorted(TAGS))
def test_a_packed_bundle_is_still_one_and_has_a_header_for_hubs(name, tmp_path):
    with zipfile.ZipFile(package_bundle(BUNDLES / name, tmp_path / "a.zip")) as archive:
        archive.extractall(tmp_path / "unpacked")
    root = tmp_path / "unpacked" / name
    check_bundle(root)
    metadata = json.loads((root / "configs/metadata.json").read_text())
    empty, header, text = (root / "README.md").read_text().split("---\n", 2)
    assert empty == "" and yaml.safe_load(header) == {
        "license": "apache-2.0",
        "library_name": "monai",
        "pipeline_tag": "image-segmentation",
        "tags": ["monai", "medical", *TAGS[name]],
    }
    assert f"# {metadata['name']}\n\n{metadata['description']}\n" in text
    for metric, value in metadata["eval_metrics"].items():
        assert f"| {metric.replace('_', ' ')} | {value} |" in text
    # a bundle that was downloaded and is packed again gets its card anew
    (root / "README.md").write_text("old")
    shutil.copytree(root, tmp_path / "again" / name)
    assert (
        package_bundle(tmp_path / "again" / name, tmp_path / "b.zip").read_bytes() == (tmp_path / "a.zip").read_bytes()
    )


def test_what_metadata_lack_is_left_out():
    card = model_card("toy", {"task": "a | b\nc", "eval_metrics": None}, "Some Licence")
    assert "# toy\n" in card and "| task | a \\| b c |" in card and "authors" not in card
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other"
