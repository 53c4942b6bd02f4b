"""Settings are checked before the first stage computes anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from weakmedsam_ext.bundle import Pipeline
from weakmedsam_ext.bundle.check_settings import check_settings
from weakmedsam_ext.bundle.command_line import check_paths, typed

CONFIGS = sorted(Path(__file__).parents[2].glob("bundles/*/configs/*.json"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"class_map": {"background": 0, "liver": 1}},
            "class_map: 0 is the background and no class; leave",
        ),
        ({"class_map": {"liver": "1"}}, "class_map: expected whole numbers above 0, but got '1' for 'liver'"),
        ({"class_map": {"liver": [1, -2]}}, "class_map: .* but got -2 for 'liver'"),
        ({"class_map": {"liver": []}}, "class_map: expected a label value for 'liver', but got none"),
        ({"class_map": {"liver": True}}, "class_map: .* but got True"),
        ({"class_map": ["liver"]}, "class_map: expected names and values"),
        ({"data": "phantoms"}, "data: expected one of volumes, synthetic, but got 'phantoms'"),
        ({"flip_axes": [3]}, r"flip_axes: expected a list of axes out of 0, 1 and 2, .* got \[3\]"),
        ({"flip_axes": 0}, "flip_axes: expected a list of axes"),
        ({"background_weight": 0}, "background_weight: expected"),
        ({"train_epochs": 0}, "train_epochs: expected a whole number from 1 on, but got 0"),
        ({"epochs": 2.5}, "epochs: expected a whole number"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0, but got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number above 0, but got nan"),
        ({"ema_decay": 1.5}, "ema_decay: expected a number from 0 and up to 1, but got 1.5"),
        ({"num_folds": 1}, "num_folds: expected a whole number from 2 on"),
        ({"num_folds": 4, "fold": 4}, "fold: expected 0 to 3, as num_folds is 4, but got 4"),
        ({"roi_size": [48, 48]}, "roi_size: expected one number or three"),
        ({"roi_size": [48, 48, 30]}, "roi_size: expected multiples of 16"),
        ({"stride": [64, 48, 16], "roi_size": [48, 48, 32]}, "stride: expected at most roi_size"),
        ({"spacing": [1.0, 1.0]}, "spacing: expected one number or three"),
        ({"spacing": -1.0}, "spacing: expected a number above 0, but got -1.0"),
        ({"intensity_window": [240, -160]}, "intensity_window: expected two intensities, the lower one first"),
        ({"controls": "no"}, "controls: expected True or False, but got 'no'"),
        ({"axis": "axal"}, "axis: expected one of axial, coronal, sagittal"),
        ({"depths": []}, "depths: expected a list of at least one number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_settings(settings)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_what_bundles_are_made_with_is_accepted(path):
    if path.name != "metadata.json":
        check_settings(ConfigParser.load_config_file(path))


def test_what_is_not_known_yet_is_left_out():
    check_settings({"epochs": "$@other", "amp": lambda: "no", "roi_size": None, "spacing": 0.625, "unknown": -1})


def test_a_pipeline_writes_nothing_before(tmp_path):
    (tmp_path / "configs").mkdir()
    stages = [{"name": "a", "config": ["a"], "outputs": []}]
    with pytest.raises(ValueError, match="learning_rate"):
        Pipeline(tmp_path / "configs", tmp_path / "out", stages, {"learning_rate": -1}).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("output_dir", "2024", "output_dir: 2024 was read as a number; write the path as ./2024"),
        ("dataset_dir", "1e3", "dataset_dir: 1000.0 was read as a number"),
        ("labels_csv", "~/a.csv", "labels_csv: ~ is not expanded here"),
        ("checkpoint", "~/a.pt", "checkpoint: ~ is not expanded here"),
    ],
)
def test_paths_of_the_command_line(name, text, message):
    with pytest.raises(ValueError, match=message):
        check_paths({name: typed(text)})
    check_paths({name: typed("./2024")})
    check_paths({name: typed("None"), "class_map": typed(json.dumps({"a": 1}))})
