import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from weakmedsam_ext.data import SliceGeometry

# volume, crop and network grids of every kind: wider, taller, cropped, enlarged, reduced, odd
GEOMETRIES = [
    SliceGeometry((20, 12, 3), ((0, 20), (0, 12)), 32),
    SliceGeometry((11, 25, 2), ((2, 10), (3, 24)), 64),
    SliceGeometry((30, 31, 2), ((5, 25), (0, 31)), 31),
    SliceGeometry((40, 36, 18), ((1, 39), (4, 30)), 19),
]
LARGER = [geometry for geometry in GEOMETRIES if geometry.img_size >= max(geometry.padded)]


def ramp(geometry):
    x, y, z = np.meshgrid(*map(np.arange, geometry.shape), indexing="ij")
    return (2.0 * x - 3.0 * y + 5.0 * z).astype(np.float32)


def network_coordinates(geometry):
    """Volume index of every pixel centre of the network's grid, derived from areas: pixel i covers [i, i + 1)."""
    centres = (np.arange(geometry.img_size) + 0.5) * geometry.padded[0] / geometry.img_size - 0.5
    starts = [box[0] - pad[0] for box, pad in zip(geometry.box, geometry.padding, strict=True)]
    return centres + starts[0], centres + starts[1]


def inside(coordinates, box, margin):
    return (coordinates >= box[0] + margin) & (coordinates <= box[1] - 1 - margin)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_ramp_keeps_its_place_on_the_network_grid(geometry):
    x, y = network_coordinates(geometry)
    margin = 2 * max(1.0, geometry.padded[0] / geometry.img_size)
    part = np.ix_(inside(x, geometry.box[0], margin), inside(y, geometry.box[1], margin))
    slices = geometry.to_network(ramp(geometry)).numpy()
    for z in range(geometry.shape[2]):
        expected = 2 * x[:, None] - 3 * y[None] + 5 * z
        assert expected[part].size > 0
        np.testing.assert_allclose(slices[z][part], expected[part], atol=1e-3)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_ramp_comes_back_to_its_place(geometry):
    x, y = network_coordinates(geometry)
    maps = torch.from_numpy(2 * x[:, None] - 3 * y[None] + np.zeros((geometry.shape[2], 1, 1, 1))).float()
    back = geometry.to_volume(maps)[0].numpy()
    expected = ramp(geometry) - 5 * np.arange(geometry.shape[2])
    edge = 2  # voxels; further inside, the filter sees the ramp only
    (x_start, x_end), (y_start, y_end) = geometry.box
    part = np.s_[x_start + edge : x_end - edge, y_start + edge : y_end - edge]
    assert expected[part].size > 0
    # the taps of the antialiasing filter wobble by up to 0.06 voxels; half a voxel would be 0.5 to 2.5, everywhere
    np.testing.assert_allclose(back[part], expected[part], atol=0.25)
    assert abs(np.mean(back[part] - expected[part])) < 0.02
    outside = np.ones(geometry.shape[:2], bool)
    outside[x_start:x_end, y_start:y_end] = False
    assert not back[outside].any()


@pytest.mark.parametrize("geometry", LARGER)
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_masks_survive_the_round_trip_voxel_by_voxel(geometry, dtype):
    mask = np.random.default_rng(0).integers(0, 5, geometry.shape).astype(dtype)
    (x_start, x_end), (y_start, y_end) = geometry.box
    expected = np.zeros_like(mask)
    expected[x_start:x_end, y_start:y_end] = mask[x_start:x_end, y_start:y_end]
    slices = geometry.to_network(mask, mode="nearest")
    assert set(slices.unique().tolist()) <= {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(geometry.to_volume(slices.unsqueeze(1), mode="nearest")[0].numpy(), expected)


def test_masks_keep_their_area():
    """Released: interpolation and then != 0, which dilates a small structure by up to 2.6 in area."""
    geometry = SliceGeometry((50, 50, 1), ((0, 50), (0, 50)), 256)
    mask = np.zeros((50, 50, 1), np.uint8)
    mask[20:25, 30:34] = 1
    share = geometry.to_network(mask, "nearest").float().mean().item()
    assert share == pytest.approx(mask.mean(), rel=0.05)


def test_classes_stay_apart():
    geometry = GEOMETRIES[1]
    maps = torch.stack([torch.full((2, 64, 64), value) for value in (0.25, 0.75)], dim=1)
    back = geometry.to_volume(maps)
    assert back.shape == (2, 11, 25, 2)
    torch.testing.assert_close(back[:, 4, 10, 1], torch.tensor([0.25, 0.75]))


def test_the_aspect_ratio_is_kept():
    volume = np.zeros((20, 60, 1), np.float32)
    volume[5:15, 20:30] = 1
    slices = SliceGeometry((20, 60, 1), ((0, 20), (0, 60)), 120).to_network(volume)[0]
    assert (slices > 0.5).any(0).sum() == (slices > 0.5).any(1).sum() == 20


def test_reduced_slices_are_antialiased():
    board = (np.indices((64, 64)).sum(0) % 2).astype(np.float32)[..., None]
    slices = SliceGeometry((64, 64, 1), ((0, 64), (0, 64)), 16).to_network(board)[0]
    torch.testing.assert_close(slices[2:-2, 2:-2], torch.full((12, 12), 0.5), atol=0.05, rtol=0)


def test_it_survives_json():
    assert SliceGeometry.from_json(json.loads(json.dumps(asdict(GEOMETRIES[1])))) == GEOMETRIES[1]


def test_a_mask_is_never_interpolated():
    with pytest.raises(ValueError, match="expected 'nearest' for a mask of type torch.uint8, but got 'bilinear'"):
        GEOMETRIES[0].to_network(np.ones((20, 12, 3), np.uint8))
    with pytest.raises(ValueError, match="expected 'nearest' for a mask of type torch.bool"):
        GEOMETRIES[0].to_volume(torch.ones(3, 1, 32, 32, dtype=torch.bool))


def test_wrong_shapes_and_modes():
    with pytest.raises(ValueError, match=r"volume: expected the shape \(20, 12, 3\), but got \(12, 20, 3\)"):
        GEOMETRIES[0].to_network(np.ones((12, 20, 3), np.float32))
    for shape in ((3, 32, 32), (2, 1, 32, 32), (3, 1, 16, 16)):
        with pytest.raises(ValueError, match=r"maps: expected shape \(Z, K, H, W\) = \(3, K, 32, 32\), but got"):
            GEOMETRIES[0].to_volume(torch.ones(shape))
    with pytest.raises(ValueError, match="nearest"):
        GEOMETRIES[0].to_network(np.ones((20, 12, 3), np.float32), mode="nearst")
