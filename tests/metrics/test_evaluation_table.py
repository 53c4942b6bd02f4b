from __future__ import annotations

import numpy as np
import pytest

from weakmedsam_ext.data import read_json, write_nifti
from weakmedsam_ext.metrics import PRESENCES, RELEASED_METRICS, VOLUME_METRICS, evaluate_predictions, format_table


def evaluation(mean, std=0.1, classes=("atrium",), missed=0):
    entry = {"mean": mean, "std": std, "median": mean, "n": 4}
    entry |= {f"n_{kind}": 0 for kind in PRESENCES[1:]} | {"n_missed": missed}
    summary = {
        protocol: {name: dict.fromkeys(metrics, entry) for name in classes}
        for protocol, metrics in (("volume", VOLUME_METRICS), ("released", RELEASED_METRICS))
    }
    return {"summary": summary}


def test_evaluations_stand_side_by_side():
    table = format_table({"CAM": evaluation(0.36), "after prompt affinity": evaluation(0.4021, missed=12)})
    lines = table.splitlines()
    assert lines[0].split() == ["atrium", "CAM", "after", "prompt", "affinity"]
    assert lines[1] == "  volume protocol, over cases"
    assert lines[2].split() == ["Dice", "0.360", "(0.100)", "0.402", "(0.100)"]
    assert lines[6].split("empty")[1].split() == "0 / 0 / 0 12 / 0 / 0".split()
    assert lines[7] == "  released protocol, over slices: for comparison only"
    assert {len(line) for line in lines if "protocol" not in line} == {len(lines[0])}
    assert table.isascii() and table.endswith("\n") and not table.endswith("\n\n")


def test_what_does_not_exist_is_a_dash():
    table = format_table({"CAM": evaluation(None, None), "segmenter": evaluation(0.5, classes=("atrium", "ventricle"))})
    atrium, ventricle = table.split("\n\n")
    assert [line.split()[1:] for line in atrium.splitlines()[2:4]] == [["-", "0.500", "(0.100)"]] * 2
    assert ventricle.splitlines()[0].split() == ["ventricle", "CAM", "segmenter"]
    assert ventricle.splitlines()[6].split()[-6:] == ["-", "0", "/", "0", "/", "0"]


def test_it_takes_what_an_evaluation_gives(tmp_path):
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    write_nifti(mask, np.eye(4), tmp_path / "a.nii.gz")
    cases = [{"case": "a", "label": str(tmp_path / "a.nii.gz")}]
    result = evaluate_predictions(cases, tmp_path, {"atrium": 1}, tmp_path / "out", progress=False)
    written = read_json(tmp_path / "out/metrics.json", "evaluate again")
    assert format_table({"CAM": result.metrics}) == format_table({"CAM": written})
    assert format_table({"CAM": written}).split()[-5:] == ["0", "/", "0", "/", "4"]


@pytest.mark.parametrize(
    "evaluations, message",
    [({}, "evaluations: expected at least one"), ({"CAM": {"dice": 1}}, "evaluations: 'CAM' is no content of a metr")],
)
def test_wrong_input_is_refused(evaluations, message):
    with pytest.raises(ValueError, match=message):
        format_table(evaluations)
