from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

from weakmedsam_ext.metrics import (
    RELEASED_METRICS,
    ReleasedSliceMetric,
    compute_released_metrics,
    compute_volume_metrics,
)


def square(half, size=64):
    mask = torch.zeros(1, 1, size, size)
    middle = slice(size // 2 - half, size // 2 + half + 1)
    mask[..., middle, middle] = 1
    return mask


def numbers(metrics):
    return {name: values.item() for name, values in metrics.items()}


@pytest.mark.parametrize("half, margin", [(2, 3), (17, 3), (20, 5)])
def test_defect_8_the_whole_mask_counts_as_surface_and_distances_are_understated(half, margin):
    y_pred, y = square(half), square(half + margin)
    steps, side = range(1, margin + 1), 2 * half + 1
    corner = [math.hypot(i, j) for i in steps for j in steps]
    # true: the inner outline is everywhere `margin` away; so are the outer sides, and their ends are further
    far = 4 * side * margin + 8 * sum(math.hypot(margin, j) for j in steps[:-1]) + 4 * math.hypot(margin, margin)
    true = (8 * half * margin + far) / (8 * half + 8 * (half + margin))
    # released: all pixels are counted, and those inside both squares are at distance 0
    understated = (4 * side * sum(steps) + 4 * sum(corner)) / (side**2 + (side + 2 * margin) ** 2)

    got = numbers(compute_released_metrics(y_pred, y))
    correct = numbers(compute_volume_metrics(y_pred[..., None], y[..., None], (1, 1, 1)))
    assert correct["assd_voxel"] == pytest.approx(true, rel=1e-5) and true >= margin
    assert got["assd_px"] == pytest.approx(understated, rel=1e-5)
    assert got["assd_px"] < correct["assd_voxel"] / 2
    assert got["hd95_px"] < correct["hd95_voxel"]


def test_defect_8_a_true_distance_of_3_58_pixels_reads_as_0_68():
    rows, columns = np.indices((64, 64)) - 32
    y_pred, y = (torch.from_numpy(np.hypot(rows, columns - shift) <= 16)[None, None] for shift in (6, 0))
    true = numbers(compute_volume_metrics(y_pred[..., None], y[..., None], (1, 1, 1)))["assd_voxel"]
    assert true == pytest.approx(3.58, abs=0.005)
    assert numbers(compute_released_metrics(y_pred, y))["assd_px"] == pytest.approx(0.68, abs=0.005)


def test_defect_9_predicting_nothing_scores_the_share_of_empty_slices():
    y = torch.zeros(1, 1, 16, 16, 10)
    y[..., 4:9, 4:9, 3:5] = 1
    nothing = torch.zeros_like(y)
    metrics = compute_released_metrics(nothing, y)
    for name in ("dice", "jaccard"):
        assert metrics[name].flatten().tolist() == [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
        metric = ReleasedSliceMetric(name)
        metric(nothing, y)
        assert metric.aggregate().item() == pytest.approx(0.8)
    assert compute_volume_metrics(nothing, y, (1, 1, 1))["dice"].item() == 0


def test_distances_do_not_exist_where_either_mask_is_empty():
    nothing, something = torch.zeros(1, 1, 64, 64), square(3)
    for pair, overlap in (((nothing, nothing), 1), ((nothing, something), 0), ((something, nothing), 0)):
        got = numbers(compute_released_metrics(*pair))
        assert got["dice"] == got["jaccard"] == overlap
        assert math.isnan(got["assd_px"]) and math.isnan(got["hd95_px"])


@pytest.mark.parametrize("seed", range(5))
def test_against_all_pairs_of_pixels_and_scikit_learn(seed):
    masks = np.random.default_rng(seed).uniform(size=(2, 12, 10)) < 0.2
    got = numbers(compute_released_metrics(*(torch.from_numpy(mask)[None, None] for mask in masks)))
    pairs = cdist(*(np.argwhere(mask) for mask in masks))
    distances = np.concatenate((pairs.min(0), pairs.min(1)))
    assert got["assd_px"] == pytest.approx(distances.mean(), rel=1e-5)
    assert got["hd95_px"] == pytest.approx(np.percentile(distances, 95), rel=1e-5)
    assert got["dice"] == pytest.approx(f1_score(masks[1].ravel(), masks[0].ravel()))
    assert got["jaccard"] == pytest.approx(jaccard_score(masks[1].ravel(), masks[0].ravel()))


def test_a_volume_is_its_slices_along_the_last_axis():
    y_pred, y = (torch.rand(2, 2, 3, 9, 8, 5) < 0.2).unbind()
    volume = compute_released_metrics(y_pred, y)
    slices = [compute_released_metrics(y_pred[b, ..., z][None], y[b, ..., z][None]) for b in range(2) for z in range(5)]
    for name in RELEASED_METRICS:
        assert volume[name].shape == (10, 3)
        torch.testing.assert_close(volume[name], torch.cat([one[name] for one in slices]), equal_nan=True)


def test_metric_collects_batches_and_lists_and_leaves_nan_out():
    nothing, something = torch.zeros(1, 1, 64, 64), square(3)
    metric = ReleasedSliceMetric("assd_px", get_not_nans=True)
    metric([something[0], nothing[0]], [something[0].roll(1, -1), something[0]])
    metric(torch.cat((something, nothing)), torch.cat((something, nothing)))
    mean, count = metric.aggregate()
    assert count.item() == 2 and mean.item() == pytest.approx(7 * 2 / 98 / 2)
    metric.reset()
    metric(nothing, something)
    assert math.isnan(metric.aggregate()[0].item())
    assert metric.aggregate("mean_batch")[0].isnan().all()


def test_metric_without_the_background_channel():
    y_pred = torch.cat((1 - square(3), square(3)), 1)
    y = torch.cat((1 - square(5), square(5)), 1)
    metric = ReleasedSliceMetric("jaccard", include_background=False, reduction="none")
    assert metric(y_pred, y).item() == pytest.approx(49 / 121)


def test_metric_in_an_engine_through_monai_s_own_handler():
    engine = Engine(lambda engine, batch: [{"pred": batch[0], "label": MetaTensor(square(5)[0])}])
    outputs = from_engine(["pred", "label"])
    handler = IgniteMetricHandler(ReleasedSliceMetric("dice"), output_transform=outputs, save_details=False)
    handler.attach(engine, "released_dice")
    engine.run([square(5), square(3)], max_epochs=1)
    assert engine.state.metrics["released_dice"] == pytest.approx((1 + 2 * 49 / (49 + 121)) / 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: compute_released_metrics(torch.zeros(4, 4), torch.zeros(4, 4)),
            r"y: expected masks \(B, C, H, W\) or",
        ),
        (
            lambda: compute_released_metrics(square(1, 8), square(1, 9)),
            r"y_pred: expected the shape of y, \(1, 1, 9, 9",
        ),
        (lambda: compute_released_metrics(square(1) * 2, square(1)), "y_pred: expected masks of 0 and 1, .* 0 to 2;"),
        (lambda: ReleasedSliceMetric("hausdorff"), "hausdorff"),
        (lambda: ReleasedSliceMetric().aggregate(), "nothing to aggregate: call the metric with masks first"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
