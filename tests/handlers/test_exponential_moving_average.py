from __future__ import annotations

import copy

import pytest
import torch

from weakmedsam_ext.handlers import ExponentialMovingAverage


def network_with_buffers():
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def test_the_average_follows_its_formula():
    network = network_with_buffers()
    average = ExponentialMovingAverage(network, 0.5)
    expected = torch.randn(2, 3)  # forgotten at step 0
    for step in range(15):
        with torch.no_grad():
            network[0].weight.add_(torch.randn(2, 3))
        average(None)
        rate = 1 - min(0.5, step / (9 + step))
        expected = expected + rate * (network[0].weight.detach() - expected)
        torch.testing.assert_close(average.network[0].weight, expected)
    assert rate == 0.5


def test_networks_share_nothing():
    network = network_with_buffers()
    average = ExponentialMovingAverage(network)
    average(None)
    before = copy.deepcopy(average.network.state_dict())
    network(torch.randn(8, 3)).square().sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not torch.equal(network[1].weight, before["1.weight"]) and network[1].running_mean.ne(0).any()
    for name, value in average.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    average(None)  # buffers are no weights: they are those of the network
    assert torch.equal(average.network[1].running_mean, network[1].running_mean)
    assert all(parameter.grad is None for parameter in average.network.parameters())


def test_the_number_of_steps_is_part_of_the_state():
    network = network_with_buffers()
    averages = [ExponentialMovingAverage(network) for _ in range(2)]
    for _ in range(3):
        averages[0](None)
    averages[1].load_state_dict(copy.deepcopy(averages[0].state_dict()))
    with torch.no_grad():
        network[0].weight.zero_()
    for average in averages:
        average(None)
    assert torch.equal(averages[0].network[0].weight, averages[1].network[0].weight)


def test_a_wrong_decay_is_refused():
    with pytest.raises(ValueError, match="decay: expected a value in 0..1, but got 1.5"):
        ExponentialMovingAverage(torch.nn.Linear(1, 1), 1.5)
