from __future__ import annotations

import copy

import pytest
import torch

from weakmedsam_ext.networks import MeanTeacher


def student():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


@pytest.mark.parametrize("warmup", [1, 5])
def test_the_teacher_follows_its_formula(warmup):
    """With a warmup of 1 the published one, min(1 - 1 / (t + 1), decay)."""
    network = student()
    teacher = MeanTeacher(network, 0.7, warmup)
    expected = torch.randn(2, 3)  # forgotten at update 0
    for t in range(15):
        with torch.no_grad():
            network[0].weight.add_(torch.randn(2, 3))
        teacher.update_parameters(network)
        decay = min(1 - warmup / (t + warmup), 0.7)
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
        torch.testing.assert_close(teacher.module[0].weight.detach(), expected)
    assert decay == 0.7


def test_student_and_teacher_share_nothing():
    network = student()
    teacher = MeanTeacher(network)
    teacher.update_parameters(network)
    before = copy.deepcopy(teacher.state_dict())
    network(torch.randn(8, 3)).square().sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not torch.equal(network[1].weight, before["module.1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="decay: expected a value in 0..1, but got 1.5"):
        MeanTeacher(student(), 1.5)
    with pytest.raises(ValueError, match="warmup: expected at least 1, but got 0.5"):
        MeanTeacher(student(), warmup=0.5)
