from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakmedsam_ext.data import Volume, write_nifti
from weakmedsam_ext.handlers import plot_prediction, write_prediction_figures
from weakmedsam_ext.handlers.pyplot import outline

pytest.importorskip("matplotlib")
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def block(start, stop):
    mask = np.zeros((20, 24, 10), np.uint8)
    mask[start:stop, 4:12, 3:7] = 1
    return mask


def test_planes_lie_where_the_real_mask_is_and_keep_its_proportions():
    image = Volume(Path("a.nii.gz"), (20, 24, 10), AFFINE, np.random.default_rng(0).random((20, 24, 10)))
    figure = plot_prediction(image, block(5, 12), block(4, 14), "a case")
    assert [axis.get_title() for axis in figure.axes] == [
        "plane 5 across axis 0",
        "plane 4 across axis 1",
        "plane 3 across axis 2",
    ]
    assert [axis.get_aspect() for axis in figure.axes] == [3.0, 3.0, 1.0]
    assert "a case" in figure.get_suptitle()
    assert all(len(axis.collections) == 2 for axis in figure.axes)  # one outline each
    nothing = np.zeros((20, 24, 10), np.uint8)
    assert plot_prediction(image, nothing, block(6, 14)).axes[0].get_title() == "plane 6 across axis 0"


def test_one_figure_a_case(tmp_path):
    cases = []
    for name in ("a", "b"):
        write_nifti(np.random.default_rng(0).random((20, 24, 10)), AFFINE, tmp_path / f"image_{name}.nii.gz")
        write_nifti(4 * block(5, 12), AFFINE, tmp_path / f"label_{name}.nii.gz")
        write_nifti(block(6, 14), AFFINE, tmp_path / f"{name}.nii.gz")
        files = {key: str(tmp_path / f"{key}_{name}.nii.gz") for key in ("image", "label")}
        cases.append({"case": name, **files})
    paths = write_prediction_figures(cases, tmp_path, {"tumour": [1, 4]}, tmp_path / "figures", progress=False)
    assert [path.name for path in paths] == ["a.png", "b.png"]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["a.png", "b.png"]
    write_nifti(block(6, 14)[:-1], AFFINE, tmp_path / "b.nii.gz")
    with pytest.raises(ValueError, match="b.nii.gz"):
        write_prediction_figures(cases, tmp_path, {"tumour": [1, 4]}, tmp_path / "figures", progress=False)


def test_outlines_of_one_row_of_pixels_are_drawn():
    pyplot = pytest.importorskip("matplotlib.figure")
    axis = pyplot.Figure().subplots()
    mask = np.zeros((1, 12), bool)
    mask[0, 4:8] = True
    outline(axis, mask, "white")
    (lines,) = axis.collections
    corners = np.concatenate([path.vertices for path in lines.get_paths()])
    assert corners[:, 0].min() == 3.5 and corners[:, 0].max() == 7.5
    assert corners[:, 1].min() == -0.5 and corners[:, 1].max() == 0.5
