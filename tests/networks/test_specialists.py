from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import SPECIALISTS, ThinVNet, build_specialist


@pytest.mark.parametrize("name", SPECIALISTS)
def test_each_gives_logits_of_its_classes_on_the_grid(name):
    network = build_specialist(name, in_channels=2, out_channels=3, channels=4).eval()
    assert network(torch.rand(1, 2, 32, 16, 16)).shape == (1, 3, 32, 16, 16)


def test_published_sizes():
    def count(network):
        return sum(parameter.numel() for parameter in network.parameters())

    assert isinstance(build_specialist("thin_vnet"), ThinVNet)
    assert count(build_specialist("thin_vnet")) == pytest.approx(9.45e6, rel=0.01)
    assert count(build_specialist("batch_norm_unet")) == pytest.approx(5.75e6, rel=0.03)  # SemiSAM+ gives 5.88 M


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unett"):
        build_specialist("unett")
