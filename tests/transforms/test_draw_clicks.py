from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    ResizeWithPadOrCropd,
    Spacingd,
    SpatialPadd,
)

from weakmedsam_ext.data import CheckedReader
from weakmedsam_ext.transforms import CropAroundClicksd, DrawClicks, DrawClicksd, SquarePadd

SHAPE = (31, 26, 14)


@pytest.fixture
def volume(tmp_path):
    """An oblique, anisotropic volume whose axes are P, S, L; every voxel is its own number."""
    turn = np.deg2rad(9)
    axes = np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]])
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes @ np.diag([0.8, 1.1, 2.5])
    affine[:3, 3] = [12, -40, 7]
    path = tmp_path / "oblique.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE), affine), path)
    return path


def load(path, clicks, *transforms):
    first = [LoadImaged("image", reader=CheckedReader), EnsureChannelFirstd("image")]
    return Compose([*first, *transforms])({"image": str(path), "clicks": clicks})


def test_untransformed_the_click_is_where_the_user_put_it(volume):
    drawn = load(volume, [[3, 20, 13, 1], [30, 0, 0, 0]], DrawClicksd())["clicks"]
    assert drawn.shape == (1, *SHAPE) and drawn.abs().sum() == 2
    assert drawn[0, 3, 20, 13] == 1 and drawn[0, 30, 0, 0] == -1


def test_clicks_of_monai_labels_viewers_are_drawn_too(volume):
    first = Compose([LoadImaged("image", reader=CheckedReader), EnsureChannelFirstd("image"), DrawClicksd()])
    sent = {"foreground": [[3, 20, 13], [4.6, 1.2, 0.0]], "background": [[30, 0, 0]]}
    drawn = first({"image": str(volume), **sent})["clicks"]
    both = [[3, 20, 13, 1], [5, 1, 0, 1], [30, 0, 0, 0]]
    torch.testing.assert_close(drawn, load(volume, both, DrawClicksd())["clicks"], rtol=0, atol=0)
    assert drawn.abs().sum() == 3
    more = first({"image": str(volume), "clicks": [[1, 1, 1, 1]], "foreground": None, "background": [[30, 0, 0]]})
    assert more["clicks"][0, 1, 1, 1] == 1 and more["clicks"][0, 30, 0, 0] == -1
    with pytest.raises(ValueError, match="expected a list of points"):
        DrawClicksd()({"image": more["image"], "foreground": {"liver": [1, 2, 3]}})


@pytest.mark.parametrize("voxel", [(3, 20, 13), (0, 0, 0), (30, 25, 13), (17, 9, 2)])
def test_the_click_stays_on_its_voxel_when_axes_turn(volume, voxel):
    item = load(volume, [[*voxel, 1]], Orientationd("image", "RAS", labels=None), DrawClicksd())
    assert item["image"][item["clicks"] == 1].item() == np.ravel_multi_index(voxel, SHAPE)


@pytest.mark.parametrize("voxel", [(3, 20, 13), (0, 0, 0), (30, 25, 13), (17, 9, 2)])
def test_the_click_is_in_the_nearest_cell_of_a_resampled_grid(volume, voxel):
    turned = Orientationd("image", "RAS", labels=None)
    item = load(volume, [[*voxel, 1]], turned, Spacingd("image", (1.5,) * 3), DrawClicksd())
    (cell,) = (item["clicks"][0] == 1).nonzero().double()
    world = torch.as_tensor(nib.load(volume).affine) @ torch.tensor([*voxel, 1.0], dtype=torch.float64)
    back = item["image"].affine.double() @ torch.cat([cell, torch.ones(1, dtype=torch.float64)])
    assert (back - world).norm() <= 1.5 * 3**0.5 / 2 + 0.8  # half a cell, or on the border


def test_a_mask_drawn_around_the_click_comes_back_to_the_voxel(volume):
    """Turned, cut to a cube around the click, and back: exact, because nothing is resampled."""
    turned = Orientationd(["image"], "RAS", labels=None)
    cut = CropAroundClicksd(["image", "clicks"], 8)
    pre = Compose(
        [LoadImaged("image", reader=CheckedReader), EnsureChannelFirstd("image"), turned, DrawClicksd(), cut]
        + [SpatialPadd(["image", "clicks"], (16,) * 3)]
    )
    for voxel in ((3, 20, 13), (0, 0, 0), (30, 25, 13)):
        item = pre({"image": str(volume), "clicks": [[*voxel, 1]]})
        assert item["image"].shape == (1, 16, 16, 16) and item["clicks"].sum() == 1
        item["pred"] = MetaTensor(item["clicks"].as_tensor())
        back = Invertd("pred", pre, orig_keys="image", nearest_interp=True, to_tensor=True)(item)["pred"]
        assert back.shape == (1, *SHAPE)
        assert (back[0] > 0.5).nonzero().tolist() == [list(voxel)]


def test_the_box_stays_inside_the_image_and_holds_all_clicks(volume):
    item = load(volume, [[0, 0, 0, 1], [5, 5, 5, 0]], DrawClicksd(), CropAroundClicksd(["image", "clicks"], 12))
    assert item["image"].shape == (1, 12, 12, 12) and item["image"][0, 0, 0, 0] == 0
    assert item["clicks"].abs().sum() == 2
    whole = load(volume, [], DrawClicksd(), CropAroundClicksd(["image", "clicks"], 12))
    assert whole["image"][0, 0, 0, 0] == np.ravel_multi_index((9, 7, 1), SHAPE)  # without clicks, the middle
    far = load(volume, [[0, 0, 0, 1], [30, 5, 5, 0]], DrawClicksd())
    with pytest.raises(
        ValueError, match=r"clicks on .*oblique.nii.gz: expected all of them in a box of \(12, 12, 12\) cells, but got"
    ):
        CropAroundClicksd(["image", "clicks"], 12)(far)


def test_no_clicks_and_repeated_ones(volume):
    assert not load(volume, [], DrawClicksd())["clicks"].any()
    item = Compose([LoadImaged("image", reader=CheckedReader), EnsureChannelFirstd("image"), DrawClicksd()])
    assert not item({"image": str(volume)})["clicks"].any()
    assert load(volume, [[1, 2, 3, 1], [1, 2, 3, 0]], DrawClicksd())["clicks"][0, 1, 2, 3] == -1


@pytest.mark.parametrize(
    ("click", "sentence"),
    [
        ([31, 0, 0, 1], r"\[31, 0, 0\] lies outside the image of \[31, 26, 14\] voxels; count from 0"),
        ([0, -1, 0, 1], r"\[0, -1, 0\] lies outside the image"),
        ([0, 1, 1], r"expected whole numbers \[i, j, k, label\] with label 1 or 0, but got \[0, 1, 1\]"),
        ([0, 1, 1, 2], "with label 1 or 0"),
        ([0.5, 1, 1, 1], "expected whole numbers"),
        ([float("nan"), 1, 1, 1], r"expected whole numbers .* but got \[nan, 1, 1, 1\]; correct it"),
        ([True, 1, 1, 1], "expected whole numbers"),
        (["1", 1, 1, 1], "expected whole numbers"),
        ([0, 1, 1, 1, 1], "expected whole numbers"),
        (7, "expected whole numbers .* but got 7; correct it"),
        (None, "expected whole numbers"),
        ({"i": 1}, "expected whole numbers"),
    ],
)
def test_bad_clicks_are_told_with_their_image(volume, click, sentence):
    item = load(volume, [[1, 1, 1, 1], click])
    with pytest.raises(ValueError, match=f"^clicks on {volume}: .*{sentence}"):
        DrawClicksd()(item)


@pytest.mark.parametrize("clicks", [None, 7, "text", {"a": [1, 1, 1, 1]}])
def test_what_is_no_list_of_clicks(volume, clicks):
    item = load(volume, clicks)
    with pytest.raises(ValueError, match=f"^clicks on {volume}: expected a list of clicks, but got .*; give"):
        DrawClicksd()(item)


@pytest.mark.parametrize("point", [[float("nan"), 1, 1], [1, float("inf"), 1], ["1", 1, 1], 5, None, [1, 1]])
def test_bad_points_of_a_viewer(volume, point):
    item = {**load(volume, []), "background": [point]}
    with pytest.raises(ValueError, match=f"^clicks on {volume}: expected (a list of points|whole numbers)"):
        DrawClicksd()(item)


def test_numbers_of_numpy_are_clicks_too(volume):
    clicks = [list(click) for click in np.array([[3, 20, 13, 1], [30, 0, 0, 0]])]
    drawn = load(volume, clicks, DrawClicksd())["clicks"]
    assert drawn[0, 3, 20, 13] == 1 and drawn[0, 30, 0, 0] == -1 and drawn.abs().sum() == 2


def test_a_click_that_was_cropped_away_is_an_error(volume):
    item = load(volume, [[0, 0, 0, 1]], ResizeWithPadOrCropd("image", (8, 8, 8)))
    with pytest.raises(ValueError, match=r"\[0, 0, 0\] lies in a dark margin of the image, which is cut off"):
        DrawClicksd()(item)
    with pytest.raises(ValueError, match="expected a MetaTensor with original_affine; read it with LoadImaged"):
        DrawClicks()([[0, 0, 0, 1]], torch.zeros(1, 4, 4, 4))


def test_slices_padded_to_squares_come_back(volume):
    """Axial slices are 14 x 31 voxels of 2.5 x 0.8 mm: 35 mm to the right, 24.8 mm to the front, 44 - 31 missing."""
    pre = Compose(
        [LoadImaged("image", reader=CheckedReader), EnsureChannelFirstd("image")]
        + [Orientationd("image", "RAS", labels=None), SquarePadd("image"), DrawClicksd()]
    )
    item = pre({"image": str(volume), "clicks": [[4, 5, 6, 1]]})
    assert item["image"].shape == (1, 14, 44, 26)
    # the file's axes run to the back, the head and the left
    assert item["clicks"][0, 13 - 6, 30 - 4 + 6, 5] == 1
    item["pred"] = MetaTensor(item["image"].as_tensor())
    back = Invertd("pred", pre, orig_keys="image", to_tensor=True)(item)["pred"]
    np.testing.assert_array_equal(back[0], nib.load(volume).get_fdata())
