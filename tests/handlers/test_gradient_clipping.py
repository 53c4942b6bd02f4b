from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer

from weakmedsam_ext.handlers import GradientClipping


def step(max_norm):
    """One step of SGD at rate 1 on 100 * w from w = 0: the weight is minus the gradient."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.full((1, 1), 100.0), "label": torch.zeros(1, 1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 1.0),
        loss_function=lambda pred, target: pred.sum(),
        train_handlers=[GradientClipping(network, max_norm)],
    ).run()
    return network.weight.item()


def test_large_gradients_are_scaled_and_small_ones_are_not():
    assert step(1.0) == pytest.approx(-1, rel=1e-4)
    assert step(1000.0) == pytest.approx(-100)


def test_the_norm_must_be_positive():
    with pytest.raises(ValueError, match="max_norm: expected a positive number, but got 0"):
        GradientClipping(torch.nn.Linear(1, 1), 0)
