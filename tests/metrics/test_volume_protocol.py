from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

from weakmedsam_ext.metrics import VOLUME_METRICS, compute_volume_metrics, presence

DISTANCES = VOLUME_METRICS[2:]


def measured(y_pred, y, spacing=(1, 1, 1)):
    """Metrics of one structure, as numbers."""
    tensors = (torch.as_tensor(mask)[None, None] for mask in (y_pred, y))
    return {name: values.item() for name, values in compute_volume_metrics(*tensors, spacing).items()}


def box(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


def blobs(seed, shape=(14, 11, 9)):
    x = np.indices(shape).reshape(3, -1).T
    generator = np.random.default_rng(seed)
    centres, radii = generator.uniform(2, np.array(shape) - 3, (3, 3)), generator.uniform(1.5, 4, 3)
    return (cdist(x, centres) < radii).any(1).reshape(shape)


def surface(mask):
    """Voxels with a face neighbour outside, found by shifting: no morphology."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(mask.ndim):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(padded & ~inner)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.6, 0.7, 2.5)])
@pytest.mark.parametrize("seed", range(4))
def test_distances_against_all_pairs_of_surface_voxels(seed, spacing):
    y_pred, y = blobs(seed), blobs(seed + 10)
    got = measured(y_pred, y, spacing)
    for unit, size in (("mm", spacing), ("voxel", (1, 1, 1))):
        pairs = cdist(surface(y_pred) * size, surface(y) * size)
        there, back = pairs.min(1), pairs.min(0)
        assert got[f"assd_{unit}"] == pytest.approx(np.concatenate((there, back)).mean(), rel=1e-5)
        assert got[f"hd95_{unit}"] == pytest.approx(max(np.percentile(d, 95) for d in (there, back)), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_overlaps_against_scikit_learn(seed):
    y_pred, y = blobs(seed), blobs(seed + 10)
    got = measured(y_pred, y)
    assert got["dice"] == pytest.approx(f1_score(y.ravel(), y_pred.ravel()))
    assert got["iou"] == pytest.approx(jaccard_score(y.ravel(), y_pred.ravel()))


def test_two_voxels_by_hand_in_millimetres_and_in_voxels():
    y_pred, y = box((9, 9, 9), (1, 2), (4, 5), (3, 4)), box((9, 9, 9), (3, 4), (5, 6), (6, 7))
    got = measured(y_pred, y, (0.5, 2, 4))
    assert got["hd95_mm"] == got["assd_mm"] == pytest.approx(math.hypot(2 * 0.5, 1 * 2, 3 * 4))
    assert got["hd95_voxel"] == got["assd_voxel"] == pytest.approx(math.hypot(2, 1, 3))
    assert got["dice"] == got["iou"] == 0


def test_cubes_shifted_along_the_thick_axis_by_hand():
    y_pred, y = (box((8, 8, 12), (2, 6), (2, 6), (start, start + 4)) for start in (3, 5))
    got = measured(y_pred, y, (1, 1, 3))
    assert got["dice"] == pytest.approx(0.5) and got["iou"] == pytest.approx(1 / 3)
    # of the 56 surface voxels of either cube, the 16 of the outer face are two slices of 3 mm off, and the rim of 12
    # next to it one. The others lie on the surface of the other cube, but for 4 in the middle of the inner face: its
    # sides are a voxel of 1 mm away
    assert got["hd95_mm"] == 6 and got["hd95_voxel"] == 2
    assert got["assd_mm"] == pytest.approx((16 * 6 + 12 * 3 + 4 * 1) / 56)
    assert got["assd_voxel"] == pytest.approx((16 * 2 + 12 * 1 + 4 * 1) / 56)


def test_concentric_spheres_on_an_anisotropic_grid():
    spacing = np.array([0.5, 0.5, 1])
    radius = np.linalg.norm((np.indices((60, 60, 31)).T - [30, 30, 15]) * spacing, axis=-1).T
    got = measured(radius <= 13, radius <= 10, spacing)
    assert got["assd_mm"] == pytest.approx(3, abs=0.25)
    assert got["hd95_mm"] == pytest.approx(3, abs=0.6)
    assert got["dice"] == pytest.approx(2 * 10**3 / (10**3 + 13**3), abs=0.01)
    assert got["assd_voxel"] > 1.3 * got["assd_mm"]


def test_a_perfect_prediction_that_touches_the_border():
    mask = box((6, 6, 6), (0, 3), (0, 6), (2, 6))
    assert measured(mask, mask, (1, 2, 3)) == {"dice": 1, "iou": 1, **dict.fromkeys(DISTANCES, 0)}


def test_a_volume_of_one_slice_is_measured_as_an_image():
    y_pred, y = box((30, 30, 1), (4, 24), (5, 25)), box((30, 30, 1), (6, 26), (5, 25))
    got = measured(y_pred, y, (0.5, 0.5, 8))
    pairs = cdist(surface(y_pred[..., 0]), surface(y[..., 0]))
    assert got["assd_voxel"] == pytest.approx(np.concatenate((pairs.min(0), pairs.min(1))).mean(), rel=1e-5)
    assert got["assd_mm"] == pytest.approx(got["assd_voxel"] / 2, rel=1e-5)


def test_empty_masks_never_score_and_never_warn():
    nothing, something = np.zeros((5, 5, 5), bool), box((5, 5, 5), (1, 3), (1, 3), (1, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty, missed, spurious = (
            measured(*pair) for pair in ((nothing, nothing), (nothing, something), (something, nothing))
        )
    assert all(math.isnan(value) for value in empty.values())
    for got in (missed, spurious):
        assert got["dice"] == got["iou"] == 0
        assert all(math.isnan(got[name]) for name in DISTANCES)


def test_presence():
    nothing, something = torch.zeros(3), torch.tensor([0, 1, 0])
    pairs = ((something, something), (nothing, something), (something, nothing), (nothing, nothing))
    assert [presence(*pair) for pair in pairs] == ["both", "missed", "spurious", "empty"]


def test_structures_of_a_batch_do_not_mix():
    masks = torch.from_numpy(np.stack([blobs(seed) for seed in range(12)])).reshape(2, 2, 3, 14, 11, 9)
    y_pred, y = masks
    y_pred[1, 2] = 0
    table = compute_volume_metrics(y_pred.float(), y.byte(), (1, 2, 3))
    for b, c in np.ndindex(2, 3):
        single = measured(y_pred[b, c], y[b, c], (1, 2, 3))
        assert [table[name][b, c].item() for name in VOLUME_METRICS] == pytest.approx(
            list(single.values()), nan_ok=True
        )


@pytest.mark.parametrize(
    "y_pred, y, spacing, message",
    [
        (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), (1, 1, 1), r"y: expected masks \(B, C, X, Y, Z\), but got"),
        (torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4), (1, 1, 1), "y_pred: expected the shape of y"),
        (torch.full((1, 1, 4, 4, 4), 0.5), torch.zeros(1, 1, 4, 4, 4), (1, 1, 1), "y_pred: .* from 0.5 to 0.5; thresh"),
        (torch.zeros(1, 1, 4, 4, 4), torch.full((1, 1, 4, 4, 4), 2), (1, 1, 1), "y: .* from 2 to 2; .*one-hot masks"),
        (torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4), (1, 1), r"spacing: expected three .* got \(1, 1\)"),
        (torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4), (1, 0, 1), "spacing: expected three positive numbers"),
    ],
)
def test_wrong_input_is_refused(y_pred, y, spacing, message):
    with pytest.raises(ValueError, match=message):
        compute_volume_metrics(y_pred, y, spacing)
