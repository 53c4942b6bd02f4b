from __future__ import annotations

import numpy as np
import pytest

from weakmedsam_ext.data import write_nifti
from weakmedsam_ext.handlers import write_step_figure
from weakmedsam_ext.handlers.step_figure import _row

pytest.importorskip("matplotlib")


def block(start, stop):
    mask = np.zeros((20, 24, 10), np.uint8)
    mask[start:stop, 4:12, 3:7] = 1
    return mask


@pytest.fixture
def cases(tmp_path):
    items = []
    for index, name in enumerate("abc"):
        files = {key: str(tmp_path / f"{key}/{name}.nii.gz") for key in ("image", "label")}
        write_nifti(np.random.default_rng(0).random((20, 24, 10)), np.diag([1.0, 1.0, 3.0, 1.0]), files["image"])
        write_nifti(4 * block(5, 12), np.diag([1.0, 1.0, 3.0, 1.0]), files["label"])
        for step, start in (("map", 0), ("network", 5 + index)):
            write_nifti(block(start, 12), np.diag([1.0, 1.0, 3.0, 1.0]), tmp_path / step / f"{name}.nii.gz")
        items.append({"case": name, **files})
    return items


def test_a_row_holds_the_fullest_slice_and_the_dice_of_every_step(cases, tmp_path):
    steps = {"map": tmp_path / "map", "network": tmp_path / "network"}
    row = _row(cases[1], steps, {"tumour": [1, 4]}, 2)
    assert row["dice"] == pytest.approx([2 * 7 / (7 + 12), 2 * 6 / (7 + 6)])
    assert row["image"].shape == row["real"].shape == (24, 20) and row["real"].sum() == 7 * 8


def test_cases_stand_from_best_to_worst(cases, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("weakmedsam_ext.handlers.step_figure._draw", lambda _, row, titles: drawn.append(row["case"]))
    steps = {"map": tmp_path / "map", "network": tmp_path / "network"}
    args = cases[::-1], steps, {"tumour": [1, 4]}, tmp_path / "figure.png"
    write_step_figure(*args, progress=False)
    write_step_figure(*args, number=2, progress=False)
    assert drawn == ["a", "b", "c", "a", "c"]


def test_the_figure_is_a_picture(cases, tmp_path):
    path = write_step_figure(cases, {"map": tmp_path / "map"}, {"tumour": [1, 4]}, tmp_path / "f.png", progress=False)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected at least one of both, but got 3 and 0"):
        write_step_figure(cases, {}, {"tumour": 1}, tmp_path / "f.png")
