"""Alike features inside regions, different ones across their borders."""

from __future__ import annotations

import math

import pytest
import torch

from weakmedsam_ext.losses import RegionAffinityLoss

HALVES = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]).expand(8, 8)[None, None]  # (1, 1, 8, 8)


def slow(features, regions, pairs, gain):
    """Cross-entropy pair by pair."""
    total, count = 0.0, 0
    for b, (places, others) in enumerate(zip(*pairs, strict=True)):
        for one, other in zip(places.tolist(), others.tolist(), strict=True):
            f, g = features[(b, slice(None), *one)], features[(b, slice(None), *other)]
            scale = [size // length for size, length in zip(regions.shape[2:], features.shape[2:], strict=True)]
            i, j = ([s * x + s // 2 for s, x in zip(scale, place, strict=True)] for place in (one, other))
            r, q = regions[(b, slice(None), *i)].tolist(), regions[(b, slice(None), *j)].tolist()
            if min(r + q) < 0:
                continue
            share = sum(x == y for x, y in zip(r, q, strict=True)) / len(r)
            distance = gain * float((f - g).abs().mean())
            total += share * distance - (1 - share) * math.log(1 - math.exp(-distance - 1e-4))
            count += 1
    return total / count


@pytest.mark.parametrize("grid", [(6, 5), (4, 3, 5)])
def test_loss_equals_the_slow_one(grid):
    features = torch.randn(2, 3, *grid)
    regions = torch.randint(-1, 3, (2, 2, *(2 * n for n in grid)))
    loss = RegionAffinityLoss(50, 3, gain=2)
    torch.manual_seed(1)
    pairs = loss._pairs(2, features.shape[2:])
    torch.manual_seed(1)
    assert loss(features, regions).item() == pytest.approx(slow(features, regions, pairs, 2), rel=1e-4)


@pytest.mark.parametrize("grid", [(30, 30), (20, 20, 20)])
def test_pairs_are_within_reach_and_fill_it(grid):
    one, other = RegionAffinityLoss(20000, 4)._pairs(1, torch.Size(grid))
    inside = ((one >= 5) & (one < grid[0] - 5)).all(-1)  # the border moves the other place
    away = (one - other)[inside].float().norm(dim=-1)
    assert away.max() <= 4 + math.sqrt(len(grid)) / 2
    # half the radius holds an eighth of a ball and a quarter of a disc; cells round that up
    share = (away <= 2).float().mean()
    assert abs(share - (13 / 49 if len(grid) == 2 else 33 / 257)) < 0.03
    assert (one >= 0).all() and (other >= 0).all() and (other < grid[0]).all() and (one < grid[0]).all()


def test_limits():
    loss = RegionAffinityLoss(500, 4)
    told_apart = HALVES.float() * 100
    assert loss(told_apart, HALVES) < 0.001
    alike = torch.zeros(1, 1, 8, 8)
    assert loss(alike, torch.zeros_like(HALVES)) == 0
    assert loss(alike, HALVES) > 1  # no difference at a border costs much, but not infinitely
    assert loss(told_apart, torch.full_like(HALVES, -1)) == 0


def test_features_learn_the_regions():
    torch.manual_seed(0)
    features = torch.randn(1, 4, 8, 8, requires_grad=True)
    loss = RegionAffinityLoss(500, 8)
    optimizer = torch.optim.Adam([features], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        loss(features, HALVES).backward()
        optimizer.step()
    found = features.detach()
    within = (found[..., :4] - found[..., :4].mean((2, 3), keepdim=True)).abs().mean()
    assert within < 0.2 * (found[..., :4].mean((2, 3)) - found[..., 4:].mean((2, 3))).abs().mean()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="reach: expected a positive number, but got 0"):
        RegionAffinityLoss(reach=0)
    with pytest.raises(ValueError, match="regions: expected 1 items with 2 spatial axes, but got"):
        RegionAffinityLoss()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4, 4, dtype=torch.long))
