from __future__ import annotations

import math

import pytest
import torch

from weakmedsam_ext.losses import PromptLoss, mask_iou


def slow_cost(logits, target, focal_weight=20.0, gamma=2.0):
    """Focal and Dice loss of one mask, cell by cell."""
    focal, overlap, total = 0.0, 0.0, 0.0
    cells = list(zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True))
    for x, t in cells:
        p = 1 / (1 + math.exp(-x))
        focal += abs(p - t) ** gamma * -(t * math.log(p) + (1 - t) * math.log(1 - p)) / len(cells)
        overlap, total = overlap + p * t, total + p + t
    return focal_weight * focal + 1 - (2 * overlap + 1) / (total + 1)


def slow_iou(logits, target):
    found, wanted = (logits > 0).flatten().tolist(), (target > 0.5).flatten().tolist()
    either = sum(f or w for f, w in zip(found, wanted, strict=True))
    return sum(f and w for f, w in zip(found, wanted, strict=True)) / max(either, 1)


def slow_loss(logits, iou, target, assignment, spread):
    losses = []
    for b in range(len(logits)):
        for q in range(logits.shape[1]):
            masks, targets, said = logits[b, q], target[b, q], iou[b, q].tolist()
            cost = [[slow_cost(mask, one) for mask in masks] for one in targets]
            fits = [[slow_iou(mask, one) for mask in masks] for one in targets]
            if assignment == "order":
                mask_loss = [cost[i][i] for i in range(len(masks))]
                true = [fits[i][i] for i in range(len(masks))]
            else:
                mask_loss = [(1 - spread) * min(row) + spread * sum(row) / len(row) for row in cost]
                true = [max(column) for column in zip(*fits, strict=True)]
            error = [(s - t) ** 2 for s, t in zip(said, true, strict=True)]
            losses.append(sum(mask_loss) / len(mask_loss) + sum(error) / len(error))
    return losses


@pytest.mark.parametrize("grid", [(5, 4), (3, 2, 4)])
@pytest.mark.parametrize(
    "masks, levels, assignment, spread",
    [
        (3, 3, "order", 0.05),
        (3, 3, "minimum", 0.0),
        (3, 2, "minimum", 0.3),
        (1, 4, "minimum", 0.05),
        (3, 1, "minimum", 1),
    ],
)
def test_loss_equals_the_slow_one(grid, masks, levels, assignment, spread):
    logits, iou = 2 * torch.randn(2, 3, masks, *grid), torch.rand(2, 3, masks)
    target = torch.rand(2, 3, levels, *grid)
    loss = PromptLoss(assignment=assignment, spread=spread)
    expected = slow_loss(logits, iou, target, assignment, spread)
    assert float(loss(logits, iou, target)) == pytest.approx(sum(expected) / 6, rel=1e-5)
    weight = torch.tensor([[1, 0, 0], [1, 0, 2]])
    weighted = (expected[0] + expected[3] + 2 * expected[5]) / 4
    assert float(loss(logits, iou, target, weight)) == pytest.approx(weighted, rel=1e-5)
    assert float(loss(logits, iou, target, torch.zeros(2, 3))) == 0


def test_value_by_hand():
    """Probability 1/2 everywhere, half of four cells wanted."""
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 1, 2, 2)
    loss = PromptLoss()(torch.zeros(1, 1, 1, 2, 2), torch.tensor([[[0.5]]]), target)
    focal, dice, iou = 0.25 * math.log(2), 1 - (2 * 1 + 1) / (2 + 2 + 1), 0.5**2
    assert float(loss) == pytest.approx(20 * focal + dice + iou, rel=1e-6)


def test_an_ambiguous_click_may_be_answered_in_any_order():
    target = torch.zeros(1, 1, 3, 4, 4)
    target[0, 0, 0, :1], target[0, 0, 1, :2], target[0, 0, 2] = 1, 1, 1
    answer = 100 * (2 * target - 1)
    turned, iou = answer[:, :, [2, 0, 1]], torch.ones(1, 1, 3)
    assert PromptLoss(spread=0)(turned, iou, target) < 1e-3 < 5 < PromptLoss(assignment="order")(turned, iou, target)
    assert PromptLoss(assignment="order")(answer, iou, target) < 1e-3


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_only_with_spread_every_mask_learns(spread):
    logits = torch.tensor([3.0, 0.0, -1.0]).view(1, 1, 3, 1, 1).repeat(1, 1, 1, 4, 4).requires_grad_()
    PromptLoss(spread=spread)(logits, torch.zeros(1, 1, 3), torch.ones(1, 1, 1, 4, 4)).backward()
    learns = logits.grad.abs().sum((-2, -1))[0, 0] > 0
    assert learns.tolist() == [True, spread > 0, spread > 0]


def test_gradient_is_that_of_finite_differences():
    logits = torch.randn(1, 2, 3, 3, 3, requires_grad=True)
    iou, target, loss = torch.rand(1, 2, 3), torch.rand(1, 2, 2, 3, 3), PromptLoss()
    (gradient,) = torch.autograd.grad(loss(logits, iou, target), logits)
    step = 1e-2 * torch.randn_like(logits)
    with torch.no_grad():
        change = loss(logits + step, iou, target) - loss(logits - step, iou, target)
    assert float(change) == pytest.approx(2 * float((gradient * step).sum()), rel=0.02)


def test_iou_of_masks_broadcasts_and_knows_empty_ones():
    found = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).view(2, 2, 2) > 0
    assert mask_iou(found, torch.tensor([[1, 0], [0, 0]]) > 0, 2).tolist() == [0.5, 0]
    assert mask_iou(found[1], found[1], 2) == 0


@pytest.mark.parametrize(
    "logits, iou, target, message",
    [
        ((1, 2, 3, 4, 4), (1, 2, 1), (1, 2, 3, 4, 4), r"iou: expected shape \(1, 2, 3\), but got \(1, 2, 1\)"),
        ((1, 2, 3, 4, 4), (1, 2, 3), (1, 2, 3, 4, 5), r"target: expected the shape \(1, 2, 3, 4, 4\) but for axis 2"),
        ((1, 2, 3, 4, 4), (1, 2, 3), (1, 1, 3, 4, 4), "target: expected the shape"),
        ((1, 2, 3, 4, 4), (1, 2, 3), (1, 2, 2, 4, 4), "target: expected one for each of 3 masks, but got 2; use"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(logits, iou, target, message):
    with pytest.raises(ValueError, match=message):
        PromptLoss(assignment="order")(torch.zeros(logits), torch.zeros(iou), torch.zeros(target))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="spread: expected a value in 0..1, but got 2"):
        PromptLoss(spread=2)
    with pytest.raises(ValueError, match="best"):
        PromptLoss(assignment="best")
