from __future__ import annotations

import pytest
import torch
from torch import nn

from weakmedsam_ext.networks import MaskDiscriminator


def test_the_published_layers():
    """Convolutions of 4^3 voxels with steps of 2 to 64, 128, 256 and 512 channels; 7.7 million weights at this size."""
    network = MaskDiscriminator(3)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv3d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (a, b, (4, 4, 4), (2, 2, 2)) for a, b in ((3, 64), (64, 128), (128, 256), (256, 512))
    ]
    slopes = [module.negative_slope for module in network.modules() if isinstance(module, nn.LeakyReLU)]
    drops = [module.p for module in network.modules() if isinstance(module, nn.Dropout3d)]
    assert slopes == [0.2] * 4 and drops == [0.5] * 3


@pytest.mark.parametrize("size", [(16, 16, 16), (20, 16, 33)])
def test_volumes_of_any_size(size):
    network = MaskDiscriminator(3, channels=4).eval()
    image, probability = torch.rand(2, 1, *size), torch.rand(2, 2, *size)
    both = network(image, probability)
    assert both.shape == (2, 1)
    torch.testing.assert_close(network(image[1:], probability[1:]), both[1:])


def test_it_learns_to_tell_masks_apart():
    network = MaskDiscriminator(3, channels=4, num_layers=2)
    image = torch.rand(4, 1, 8, 8, 8)
    sharp = torch.zeros(4, 2, 8, 8, 8)
    sharp[:2, 0], sharp[2:] = 1, 0.5
    target = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(image, sharp), target).backward()
        optimizer.step()
    assert torch.equal(network.eval()(image, sharp) > 0, target > 0.5)


def test_it_has_a_layer():
    with pytest.raises(ValueError, match="num_layers: expected at least 1, but got 0"):
        MaskDiscriminator(3, num_layers=0)
