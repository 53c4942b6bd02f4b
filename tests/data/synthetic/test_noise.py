from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.data.synthetic.noise import along_axes, smooth_noise


@pytest.mark.parametrize("size", [(40, 24), (20, 16, 12)])
def test_noise_has_mean_zero_and_variance_one_at_every_scale(size):
    scale = torch.tensor([1.0, 2.5]).repeat(8)
    noise = smooth_noise(4, size, scale, torch.Generator().manual_seed(0))
    assert noise.shape == (16, 4, *size)
    for item in (noise[::2], noise[1::2]):
        assert abs(float(item.mean())) < 0.05 and 0.9 < float(item.var()) < 1.1


def test_noise_is_smoother_the_larger_its_scale():
    noise = smooth_noise(1, (64, 64), torch.tensor([2.0, 16.0]), torch.Generator().manual_seed(0))
    steps = noise.diff(dim=2).abs().mean((1, 2, 3))
    assert steps[0] > 4 * steps[1]


def test_operators_act_on_their_axis():
    field = torch.rand(2, 3, 4, 5)
    first, second = torch.rand(2, 6, 4), torch.rand(2, 7, 5)
    expected = torch.einsum("bij,bcjk,blk->bcil", first, field, second)
    torch.testing.assert_close(along_axes(field, [first, second]), expected)
    assert torch.equal(along_axes(field, [None, None]), field)
