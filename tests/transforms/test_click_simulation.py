from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.transforms import simulate_clicks

SHAPES = [(9, 11), (5, 6, 7)]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, NO_GPU))]


def neighbours(place):
    for axis in range(len(place)):
        for step in (-1, 1):
            yield (*place[:axis], place[axis] + step, *place[axis + 1 :])


def slow_candidates(error, rule):
    """Where the rule may click: places of one item as tuples, by searching and by all pairs of distances."""
    places = [tuple(place) for place in error.nonzero().tolist()]
    if rule == "uniform" or not places:
        return set(places)
    left, regions = set(places), []
    for seed in places:
        if seed in left:
            left.discard(seed)
            region, queue = [], [seed]
            while queue:
                region.append(queue.pop())
                found = [place for place in neighbours(region[-1]) if place in left]
                left.difference_update(found)
                queue += found
            regions.append(region)
    region = max(regions, key=len)
    padded = torch.ones([side + 2 for side in error.shape], dtype=torch.bool)  # True: outside the region
    padded[tuple((torch.tensor(region) + 1).T)] = False
    outside = padded.nonzero().double()
    distance = torch.cdist(torch.tensor(region).double() + 1, outside).min(1).values
    far = distance > distance.max() / 2 + 1e-9
    return {place for place, is_far in zip(region, far.tolist(), strict=True) if is_far}


def blobs(shape, count):
    """Smooth random masks, so that errors have regions with an inside."""
    noise = torch.rand(count, 1, *shape)
    pool = torch.nn.functional.avg_pool2d if len(shape) == 2 else torch.nn.functional.avg_pool3d
    return pool(noise, 3, 1, 1)[:, 0] > 0.45


@pytest.mark.parametrize("positive_only", [False, True])
@pytest.mark.parametrize("rule", ["uniform", "center"])
@pytest.mark.parametrize("shape", SHAPES)
def test_clicks_follow_the_slow_rule(shape, rule, positive_only):
    predicted, wanted = blobs(shape, 4), blobs(shape, 4)
    candidates = [
        slow_candidates(w & ~p if positive_only else w ^ p, rule) for p, w in zip(predicted, wanted, strict=True)
    ]
    hit = [set() for _ in candidates]
    times = 1500 if rule == "uniform" else 200  # enough to meet every candidate
    masks = [mask.repeat(times, *[1] * len(shape)) for mask in (predicted, wanted)]
    points, labels = simulate_clicks(*masks, rule, positive_only=positive_only)
    for n, (point, label) in enumerate(zip(points.tolist(), labels.tolist(), strict=True)):
        hit[n % 4].add(tuple(point))
        assert label == int(wanted[n % 4][tuple(point)]) != int(predicted[n % 4][tuple(point)])
    assert hit == candidates and all(candidates)


def test_every_place_is_as_likely():
    wanted = torch.zeros(6000, 4, 4, dtype=torch.bool)
    wanted[:, 1, :3] = True
    predicted = torch.zeros_like(wanted)
    predicted[:, 3, 1:] = True
    points, labels = simulate_clicks(predicted, wanted)
    counts = torch.bincount(points[:, 0] * 4 + points[:, 1], minlength=16)
    assert counts.nonzero().flatten().tolist() == [4, 5, 6, 13, 14, 15]
    assert ((counts[counts > 0] - 1000).abs() < 150).all()  # 5 standard deviations
    assert abs(int(labels.sum()) - 3000) < 200


def test_border_of_the_image_counts_as_border():
    points, labels = simulate_clicks(torch.zeros(50, 7, 7) > 0, torch.ones(50, 7, 7) > 0, "center")
    # distances 1 to 4 from outside to the middle
    assert points.min() >= 2 and points.max() <= 4 and labels.eq(1).all()


@pytest.mark.parametrize("rule", ["uniform", "center"])
def test_defect_4_the_sign_is_read_at_the_click(rule):
    """The released code read it at the channel instead of at z: every click on the object became negative."""
    wanted, predicted = torch.zeros(2, 8, 8, 8, dtype=torch.bool), torch.zeros(2, 8, 8, 8, dtype=torch.bool)
    wanted[0, 5:, 1:4, 2:7] = True  # missing: nothing of it at index 0 or 1 of the first axis
    predicted[1, 5:, 1:4, 2:7] = True  # too much
    points, labels = simulate_clicks(predicted, wanted, rule)
    assert labels.tolist() == [1, 0]
    assert wanted[0][tuple(points[0])] and predicted[1][tuple(points[1])]


@pytest.mark.parametrize("rule", ["uniform", "center"])
def test_defect_5_no_state_leaks_across_the_batch(rule):
    """The released code started volume 2 from the mask of volume 1."""
    predicted, wanted = blobs((8, 9, 10), 3), blobs((8, 9, 10), 3)
    other = predicted.clone()
    other[0] = wanted[0]
    clicks = [simulate_clicks(p, wanted, rule, torch.Generator().manual_seed(1)) for p in (predicted, other)]
    assert clicks[1][1][0] == -1
    for first, second in zip(*clicks, strict=True):
        assert torch.equal(first[1:], second[1:])


@pytest.mark.parametrize("rule", ["uniform", "center"])
@pytest.mark.parametrize("shape", SHAPES)
def test_defect_7_nothing_to_click_is_no_crash(rule, shape):
    same = torch.zeros(3, *shape, dtype=torch.bool)
    same[1:] = True
    points, labels = simulate_clicks(same, same, rule)
    assert labels.tolist() == [-1, -1, -1] and points.eq(0).all() and points.shape == (3, len(shape))
    too_much = torch.ones(1, *shape, dtype=torch.bool)
    assert simulate_clicks(too_much, ~too_much, rule, positive_only=True)[1].tolist() == [-1]


@pytest.mark.parametrize("rule", ["uniform", "center"])
@pytest.mark.parametrize("device", DEVICES)
def test_clicks_follow_the_seed_on_every_device(rule, device):
    predicted, wanted = blobs((16, 16, 16), 5), blobs((16, 16, 16), 5)
    torch.manual_seed(4)
    first = simulate_clicks(predicted, wanted, rule)
    torch.manual_seed(4)
    second = simulate_clicks(predicted.to(device), wanted.to(device), rule)
    for a, b in zip(first, second, strict=True):
        assert b.device.type == device and torch.equal(a, b.cpu())
    assert not torch.equal(simulate_clicks(predicted, wanted, rule)[0], first[0])


@pytest.mark.parametrize(
    "predicted, wanted, rule, message",
    [
        (torch.zeros(1, 4, 4), torch.zeros(1, 4, 4) > 0, "uniform", r"predicted: expected a bool .* got torch.float32"),
        (torch.zeros(4, 4) > 0, torch.zeros(4, 4) > 0, "center", r"predicted: expected .* got torch.bool \(4, 4\)"),
        (torch.zeros(1, 4, 4) > 0, torch.zeros(1, 4, 5) > 0, "uniform", r"wanted: expected the shape \(1, 4, 4\)"),
        (torch.zeros(1, 4, 4) > 0, torch.zeros(1, 4, 4) > 0, "middle", "middle"),
    ],
)
def test_wrong_masks_are_refused(predicted, wanted, rule, message):
    with pytest.raises(ValueError, match=message):
        simulate_clicks(predicted, wanted, rule)


@pytest.mark.parametrize("size", [(20, 24), (16, 18, 20)])
def test_inner_clicks_stay_away_from_the_border_where_they_can(size):
    wanted = torch.zeros(2, *size, dtype=torch.bool)
    wanted[(0, *(slice(3, 14) for _ in size))] = True  # four peels leave 3 along each axis
    wanted[(0, *(slice(0, 1) for _ in size))] = True  # a corner far from it
    wanted[(1, *(slice(5, 6) for _ in size))] = True  # too thin to peel
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        points, labels = simulate_clicks(torch.zeros_like(wanted), wanted, "inner", generator)
        assert ((points[0] >= 7) & (points[0] < 10)).all() and points[1].tolist() == [5] * len(size)
        assert labels.tolist() == [1, 1]


@pytest.mark.gpu
@NO_GPU
def test_clicks_of_whole_volumes_on_a_gpu_are_those_of_the_cpu():
    predicted, wanted = blobs((96, 80, 64), 3), blobs((96, 80, 64), 3)
    for rule in ("uniform", "center"):
        torch.manual_seed(7)
        expected = simulate_clicks(predicted, wanted, rule)
        torch.manual_seed(7)
        clicks = simulate_clicks(predicted.cuda(), wanted.cuda(), rule)
        assert all(found.is_cuda and torch.equal(found.cpu(), one) for found, one in zip(clicks, expected, strict=True))
