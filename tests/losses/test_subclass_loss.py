from __future__ import annotations

import math

import pytest
import torch

from weakmedsam_ext.losses import SubclassLoss, subclass_target


def test_target_of_two_classes_with_three_clusters():
    clusters = torch.tensor([[2, -1], [-1, 0], [-1, -1], [1, 2]])
    assert subclass_target(clusters, 3).tolist() == [
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize("num_classes", [1, 4])
@pytest.mark.parametrize("num_subclasses", [1, 8])
def test_target_of_any_size(num_classes, num_subclasses):
    clusters = torch.randint(-1, num_subclasses, (50, num_classes))
    target = subclass_target(clusters, num_subclasses)
    for row, wanted in zip(target, clusters, strict=True):
        ones = {1 + k * num_subclasses + int(s) for k, s in enumerate(wanted) if s >= 0} or {0}
        assert set(row.nonzero().flatten().tolist()) == ones


def test_loss_by_hand():
    loss = SubclassLoss(num_classes=1, num_subclasses=2)
    class_logits, subclass_logits = torch.zeros(1, 1), torch.tensor([[0.0, 0.0, math.log(3)]])
    target = subclass_target(torch.tensor([[1]]), 2)
    # class: -log 1/2; sub-classes: twice -log 1/2 and -log 3/4, averaged, at half weight
    expected = math.log(2) + 0.5 * (2 * math.log(2) + math.log(4 / 3)) / 3
    assert loss((class_logits, subclass_logits), target).item() == pytest.approx(expected)


def test_zero_weight_is_plain_classification():
    logits = (torch.randn(3, 2), torch.randn(3, 9))
    target = subclass_target(torch.tensor([[0, -1], [3, 1], [-1, -1]]), 4)
    classes = torch.tensor([[1.0, 0], [1, 1], [0, 0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[0], classes)
    torch.testing.assert_close(SubclassLoss(2, 4, weight=0)(logits, target), expected)


def test_perfect_logits_reach_zero_and_gradients_flow_to_both_heads():
    target = subclass_target(torch.tensor([[0, 1], [-1, 1]]), 2)
    perfect = (torch.tensor([[1.0, 1], [-1, 1]]) * 50, (target * 2 - 1) * 50)
    assert SubclassLoss(2, 2)(perfect, target) < 1e-6
    logits = (torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 5, requires_grad=True))
    SubclassLoss(2, 2)(logits, target).backward()
    assert logits[0].grad[0, 0] < 0 < logits[0].grad[1, 0]
    assert logits[1].grad[0, 1] < 0 < logits[1].grad[0, 2]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: subclass_target(torch.tensor([[3]]), 3), "subclass: expected clusters in 0 to 2, .* got 3 to 3"),
        (lambda: subclass_target(torch.tensor([[-2]]), 3), "subclass: expected clusters in 0 to 2, .* got -2 to -2"),
        (lambda: SubclassLoss(1, 2, weight=-1), "weight: expected at least 0, but got -1"),
        (lambda: SubclassLoss(2, 2)((torch.zeros(1, 1), torch.zeros(1, 5)), torch.zeros(1, 5)), "class logits .B, 2."),
        (lambda: SubclassLoss(2, 2)((torch.zeros(1, 2), torch.zeros(1, 4)), torch.zeros(1, 5)), "input: expected sub"),
        (lambda: SubclassLoss(2, 2)((torch.zeros(1, 2), torch.zeros(1, 5)), torch.zeros(1, 2)), "target: expected sub"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
