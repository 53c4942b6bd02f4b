"""What the weakly supervised stages share: axis and patients reach the split, the slices and the labels."""

from __future__ import annotations

import json

import pytest
from orientations import CODES, SHAPE, phantom, write_orientations

from weakmedsam_ext.data import SliceStudy


@pytest.fixture
def data(tmp_path):
    cases = write_orientations(tmp_path, *phantom())
    (tmp_path / "dataset.json").write_text(
        json.dumps({"training": [{"image": case["image"], "label": case["label"]} for case in cases]})
    )
    return tmp_path


def test_axis(data):
    study = SliceStudy(data, data / "out", {"one": 1}, img_size=16, num_folds=2, axis="coronal")
    assert len(study.slices("train")) == 2 * SHAPE[1]
    assert study.labels.source["axis"] == "coronal"
    with pytest.raises(ValueError, match="axial"):
        SliceStudy(data, data / "out", {"one": 1}, axis="axal")


def test_patients(data):
    """RAS and PIR are one patient, LPS and SLA the other."""
    pairs = {"RAS_image": "x", "PIR_image": "x", "LPS_image": "y", "SLA_image": "y"}
    (data / "p.csv").write_text("case,patient\n" + "\n".join(f"{case},{who}" for case, who in pairs.items()))
    for fold in (0, 1):
        study = SliceStudy(data, data / "out", {"one": 1}, num_folds=2, fold=fold, groups=data / "p.csv")
        names = {case["case"] for case in study.split["validation"]}
        assert len({pairs[name] for name in names}) == 1 and len(names) == len(CODES) // 2
