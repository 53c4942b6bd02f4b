from __future__ import annotations

import math

import pytest
import torch
from monai.losses import DiceCELoss

from weakmedsam_ext.losses import ConsistencyLoss, GeneralistLoss, UncertaintyConsistencyLoss, predictive_entropy


def logits_of(*probabilities):
    """Logits (1, C, 1, 1, V) whose softmax has the given foreground (or per class) probabilities at V voxels."""
    rows = [(1 - p, p) if isinstance(p, float) else p for p in probabilities]
    return torch.tensor(rows).T.log()[None, :, None, None]


def test_consistency_by_hand():
    loss = ConsistencyLoss()(logits_of(0.2, 0.9), logits_of(0.5, 0.8))
    assert float(loss) == pytest.approx((0.3**2 + 0.1**2) / 2)  # both classes differ alike
    assert float(ConsistencyLoss()(logits_of(0.2), logits_of(0.2) + 3)) == pytest.approx(0, abs=1e-12)


def test_consistency_teaches_the_student_only():
    student, teacher = (logits_of(p).requires_grad_() for p in (0.2, 0.5))
    ConsistencyLoss()(student, teacher).backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None


def test_entropy_in_nats():
    assert float(predictive_entropy(torch.full((1, 2, 1), 0.5))) == pytest.approx(math.log(2))
    assert float(predictive_entropy(torch.full((1, 3, 1), 1 / 3))) == pytest.approx(math.log(3))
    assert float(predictive_entropy(torch.tensor([[[1.0], [0.0]]]))) == 0


def entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_uncertain_voxels_leave_sum_and_count():
    mean = logits_of(0.1, 0.5, 0.21).softmax(1)
    assert entropy(0.1) < 0.75 * math.log(2) * 0.7 and entropy(0.21) < 0.75 * math.log(2) < entropy(0.25)
    student, teacher = logits_of(0.2, 0.9, 0.6), logits_of(0.5, 0.1, 0.8)
    loss = UncertaintyConsistencyLoss()
    assert float(loss(student, teacher, mean, 0.0)) == pytest.approx((0.3**2 + 0.2**2) / 2)
    unsure = logits_of(0.1, 0.5, 0.3).softmax(1)
    assert float(loss(student, teacher, unsure, 0.0)) == pytest.approx(0.3**2)
    assert float(loss(student, teacher, unsure, 1.0)) == pytest.approx((0.3**2 + 0.2**2) / 2)  # below ln 2 now


def test_the_threshold_is_ln_of_the_number_of_classes():
    probabilities = (0.6, 0.3, 0.1)  # 0.898 nats: above 0.75 ln 3 = 0.824, below ln 3
    mean, student = logits_of(probabilities).softmax(1), logits_of((0.2, 0.2, 0.6))
    loss = UncertaintyConsistencyLoss()
    assert float(loss(student, logits_of(probabilities), mean, 0.0)) == 0
    assert float(loss(student, logits_of(probabilities), mean, 1.0)) == pytest.approx((0.16 + 0.01 + 0.25) / 3)


def test_no_certain_voxel_means_no_loss_and_a_finite_gradient():
    student = logits_of(0.2).requires_grad_()
    loss = UncertaintyConsistencyLoss()(student, logits_of(0.9), torch.full((1, 2, 1, 1, 1), 0.5), 1.0)
    loss.backward()
    assert float(loss.detach()) == 0 and (student.grad == 0).all()


def test_generalist_by_hand():
    logits, target = logits_of(0.2, 0.9), torch.tensor([[0.6, 1.0]])[:, None, None, None]
    assert float(GeneralistLoss()(logits, target)) == pytest.approx((0.4**2 + 0.1**2) / 2)
    weight = torch.tensor([0.5, 1.0])
    assert float(GeneralistLoss()(logits, target, weight)) == pytest.approx((0.5 * 0.4**2 + 0.1**2) / 2)


def test_generalist_with_several_classes_by_hand():
    target = torch.tensor([0.5, 0.1])[None, :, None, None, None]
    assert float(GeneralistLoss()(logits_of((0.7, 0.2, 0.1)), target)) == pytest.approx(0.3**2 / 2)


def test_defect_6_uniform_uncertainty_does_not_cancel():
    logits, target = torch.randn(2, 2, 3, 3, 3), torch.rand(2, 1, 3, 3, 3)
    certain, uncertain = (GeneralistLoss()(logits, target, torch.exp(-torch.tensor(u))) for u in (0.0, 2.0))
    assert float(uncertain) == pytest.approx(math.exp(-2) * float(certain))


def test_a_network_can_fit_a_pseudo_mask():
    logits = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
    target = (torch.rand(1, 1, 4, 4, 4) > 0.5).float()
    optimizer = torch.optim.Adam([logits], 0.5)
    for _ in range(30):
        optimizer.zero_grad()
        GeneralistLoss()(logits, target).backward()
        optimizer.step()
    assert torch.equal(logits.argmax(1, keepdim=True).float(), target)


def test_monais_supervised_loss_is_the_published_one():
    """Cross-entropy of all classes plus Dice of the foreground."""
    logits, label = logits_of(0.8, 0.3), torch.tensor([1.0, 0.0])[None, None, None, None]
    loss = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=0, smooth_dr=0)
    cross_entropy = -(math.log(0.8) + math.log(0.7)) / 2
    dice = 1 - 2 * 0.8 / (0.8 + 0.3 + 1)
    assert float(loss(logits, label)) == pytest.approx(cross_entropy + dice)


def test_shapes_that_would_broadcast_are_refused():
    logits = torch.zeros(2, 2, 4, 4, 4)
    with pytest.raises(
        ValueError, match=r"teacher_logits: expected shape \(2, 2, 4, 4, 4\), but got \(1, 2, 4, 4, 4\)"
    ):
        ConsistencyLoss()(logits, logits[:1])
    with pytest.raises(ValueError, match=r"mean_probability: expected shape \(2, 2, 4, 4, 4\)"):
        UncertaintyConsistencyLoss()(logits, logits, logits[:, :1], 0.0)
    with pytest.raises(ValueError, match=r"pseudo_mask: expected shape \(2, 1, 4, 4, 4\), but got \(2, 2, 4, 4, 4\)"):
        GeneralistLoss()(logits, logits)
