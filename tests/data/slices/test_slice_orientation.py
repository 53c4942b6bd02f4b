"""One geometry for slices, whatever the order of the axes in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from orientations import AFFINE, CODES, SHAPE, phantom, reorder, write_orientations

from weakmedsam_ext.data import (
    Grid,
    SliceDataset,
    SliceGeometry,
    build_slice_store,
    load_mask,
    read_grid,
    slice_labels_from_csv,
    slice_labels_from_masks,
)
from weakmedsam_ext.handlers import PseudoLabelWriter

CLASSES = {"one": 1, "two": 2}
AXES = {"axial": 2, "coronal": 1, "sagittal": 0}


@pytest.fixture(params=AXES)
def study(request, tmp_path):
    axis = request.param
    cases = write_orientations(tmp_path, *phantom())
    store = build_slice_store(cases, tmp_path / "store", img_size=24, progress=False, axis=axis)
    labels = slice_labels_from_masks(cases, tmp_path / "labels.json", CLASSES, progress=False, axis=axis)
    return axis, cases, store, labels


def test_slices_and_labels_are_bit_identical(study):
    axis, cases, store, labels = study
    assert store["RAS"].shape == (SHAPE[AXES[axis]], 24, 24)
    for case in CODES[1:]:
        np.testing.assert_array_equal(store[case], store["RAS"])
        np.testing.assert_array_equal(labels.matrix(case), labels.matrix("RAS"))
        assert torch.equal(store.geometry(case).valid, store.geometry("RAS").valid)
        items = [SliceDataset(store, labels, [name])[3] for name in (case, "RAS")]
        assert all(torch.equal(items[0][key], items[1][key]) for key in ("image", "valid", "class_label"))
    expected = [(phantom()[1] == value).any(tuple({0, 1, 2} - {AXES[axis]})) for value in (1, 2)]
    np.testing.assert_array_equal(labels.matrix("RAS"), np.stack(expected, 1))


def test_masks_on_the_networks_grid_are_bit_identical(study):
    _, cases, store, _ = study
    first, *others = (
        store.geometry(item["case"]).to_network(load_mask(item["label"]).array, "nearest") for item in cases
    )
    assert set(first.unique().tolist()) == {0, 1, 2}
    assert all(torch.equal(first, other) for other in others)


def test_pseudo_labels_are_bit_identical_on_the_files_own_grids(study, tmp_path):
    _, cases, store, labels = study
    writer = PseudoLabelWriter(cases, store, labels, tmp_path / "pseudo")
    engine = Engine(lambda _, batch: [{"pred": soft_maps(item)} for item in batch])
    writer.attach(engine)
    dataset = SliceDataset(store, labels, keep="with")
    engine.run([[dataset[index]] for index in range(len(dataset))])
    found = {}
    for item in cases:
        written, image = load_mask(writer.path(item["case"])), read_grid(item["image"])
        assert written.shape == image.shape
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)
        found[item["case"]] = reorder(written.array, written.affine, "RAS")[0]
    assert set(np.unique(found["RAS"])) == {0, 1, 2}
    for case in CODES[1:]:
        np.testing.assert_array_equal(found[case], found["RAS"])


def soft_maps(item):
    """Any soft maps of the classes that are visible."""
    maps = torch.cat([item["image"], item["image"].flip(-1)])
    return maps * item["class_label"][:, None, None] * item["valid"]


@pytest.mark.parametrize("axis", AXES)
def test_numbers_of_slices_in_a_csv_are_those_of_the_file(tmp_path, axis):
    """The only slice that shows a class is found by eye, in the array of each file."""
    image, _ = phantom()
    mask = np.zeros(SHAPE, np.uint8)
    mask[6, 5, 2] = 1
    cases = write_orientations(tmp_path, image, mask)
    rows = ["case,slice,classes"]
    for item in cases:
        array = load_mask(item["label"]).array
        # the array axis that runs along R or L, A or P, S or I
        along = next(i for i, code in enumerate(item["case"]) if code in ("RL", "AP", "SI")[AXES[axis]])
        number = int(np.argwhere(array)[0][along])
        rows += [f"{item['case']},{k},{'one' if k == number else ''}" for k in range(array.shape[along])]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    labels = slice_labels_from_csv(tmp_path / "labels.csv", cases, ["one"], axis=axis)
    expected = slice_labels_from_masks(cases, tmp_path / "labels.json", {"one": 1}, progress=False, axis=axis)
    for case in CODES:
        np.testing.assert_array_equal(labels.matrix(case), expected.matrix(case))
        assert labels.matrix(case)[:, 0].tolist().index(1) == (6, 5, 2)[AXES[axis]]


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("axis", AXES)
def test_there_and_back(tmp_path, codes, axis):
    """A mask that survives nearest resampling comes back voxel by voxel, in the file's own order."""
    cases = write_orientations(tmp_path, *phantom())
    item = cases[CODES.index(codes)]
    mask = load_mask(item["label"])
    geometry = SliceGeometry.of_grid(mask, 64, axis)
    back = geometry.to_volume(geometry.to_network(mask.array, "nearest").unsqueeze(1), "nearest")[0]
    np.testing.assert_array_equal(back.numpy(), mask.array)
    # soft maps: a constant stays one up to the border; the padding does not darken it
    ones = geometry.valid.float().expand(geometry.num_slices, 1, 64, 64)
    torch.testing.assert_close(geometry.to_volume(ones), torch.ones(1, *mask.shape))


def test_aspect_ratio_is_kept_in_millimetres():
    """A disc of 12 mm is a disc on the network's grid, in coronal slices of 0.8 x 3 mm too."""
    x, _, z = np.meshgrid(np.arange(40) * 0.8, np.arange(3), np.arange(10) * 3.0, indexing="ij")
    disc = (((x - 15.6) ** 2 + (z - 13.5) ** 2) < 12**2).astype(np.float32)
    grid = Grid(Path("a.nii.gz"), disc.shape, np.diag([0.8, 1, 3.0, 1]))
    geometry = SliceGeometry.of_grid(grid, 160, "coronal")
    assert geometry.padded == (40, 11)  # 32 mm and, to the nearest voxel, 33 mm
    seen = geometry.to_network(disc)[1] > 0.5
    height, width = seen.any(1).sum().item(), seen.any(0).sum().item()
    assert height == pytest.approx(24 * 5, abs=4) and width == pytest.approx(24 * 5, rel=0.2)


def test_padding_by_hand():
    """20 x 14 voxels of 1 x 1 mm on 40 pixels: 3 voxels, 6 pixels, on either side of the columns."""
    geometry = SliceGeometry((20, 14, 2), ((0, 20), (0, 14)), 40)
    assert geometry.padding == ((0, 0), (3, 3)) and geometry.window == ((0, 40), (6, 34))
    assert geometry.valid.sum() == 40 * 28 and geometry.valid[:, 6:34].all()


@pytest.mark.parametrize("size", [(20, 14), (7, 31), (64, 3), (300, 1), (1, 300), (33, 32)])
@pytest.mark.parametrize("img_size", [8, 32, 33])
def test_valid_pixels_are_those_whose_centre_is_image(size, img_size):
    geometry = SliceGeometry((*size, 1), ((0, size[0]), (0, size[1])), img_size)
    nearest = geometry.to_network(np.ones(geometry.shape, np.uint8), "nearest")[0].bool()
    if nearest.any():
        assert torch.equal(geometry.valid, nearest)
    else:
        assert geometry.valid.any()
    assert (geometry.to_volume(geometry.valid.float()[None, None]) > 0.99).all()


def test_slice_numbers_of_a_file():
    turned = reorder(np.zeros(SHAPE, np.uint8), AFFINE, "SLA")
    grid = Grid(Path("a.nii.gz"), turned[0].shape, turned[1])
    # the second array axis runs to the left
    sagittal = SliceGeometry.of_grid(grid, 8, "sagittal")
    assert sagittal.num_slices == 18 and [sagittal.file_index(i) for i in (0, 5, 17)] == [17, 12, 0]
    assert SliceGeometry.of_grid(grid, 8, "axial").file_index(3) == 3


def test_oblique_volumes_keep_their_own_axes():
    turn = np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ AFFINE[:3, :3]
    grid = Grid(Path("a.nii.gz"), SHAPE, affine)
    assert SliceGeometry.of_grid(grid, 8) == SliceGeometry.of_grid(Grid(Path("a.nii.gz"), SHAPE, AFFINE), 8)


def test_unknown_axis_and_other_axes(tmp_path):
    cases = write_orientations(tmp_path, *phantom())
    with pytest.raises(ValueError, match="axial"):
        build_slice_store(cases, tmp_path / "store", axis="axal", progress=False)
    store = build_slice_store(cases, tmp_path / "store", 16, progress=False)
    labels = slice_labels_from_masks(cases, tmp_path / "labels.json", CLASSES, progress=False, axis="coronal")
    with pytest.raises(ValueError, match="labels: expected those of axial slices, .* but got those of coronal ones"):
        SliceDataset(store, labels)
