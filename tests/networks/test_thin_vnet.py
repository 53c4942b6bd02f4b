from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import ThinVNet


def test_it_has_the_published_size():
    """9.45 M: kernels of 27 or 8 weights, biases, and 2 numbers for every channel of a norm."""
    widths, counts = (16, 32, 64, 128, 256), (1, 2, 3, 3, 3)
    total = 2 * 16 + 2  # the head
    for level, (width, count) in enumerate(zip(widths, counts, strict=True)):
        first = 1 if level == 0 else width
        total += (first + (count - 1) * width) * width * 27 + 3 * count * width
        if level < 4:
            total += 2 * (8 * width * 2 * width) + 3 * 3 * width  # down to twice the channels, and up again
            total += count * (width * width * 27 + 3 * width)
    assert sum(p.numel() for p in ThinVNet().parameters()) == total == 9_448_866


def test_every_level_is_seen_and_keeps_its_place():
    torch.manual_seed(0)
    network = ThinVNet(2, 3, channels=2).eval()
    image = torch.rand(1, 2, 32, 16, 48)
    assert network(image).shape == (1, 3, 32, 16, 48)
    image.requires_grad_()
    network(image)[0, 0, 16, 8, 24].backward()
    reached = image.grad[0].abs().sum(0)
    assert reached[16, 8, 24] > 0 and reached[0, 0, 0] > 0  # through the coarsest level
    names = {name for name, p in network.named_parameters() if p.grad is None}
    assert names == set()


def test_dropout_is_a_switch_of_training():
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16, 16)
    for dropout in (True, False):
        network = ThinVNet(channels=2, dropout=dropout).eval()
        assert torch.equal(network(image), network(image))
        torch.nn.Module.train(network.head)
        assert torch.equal(network(image), network(image)) is not dropout


def test_axes_that_do_not_halve_four_times_are_refused():
    with pytest.raises(ValueError, match="multiples of 16, but got .*24.*; pad it"):
        ThinVNet(channels=2)(torch.rand(1, 1, 16, 24, 16))
