from __future__ import annotations

import pytest
import torch
from padded_attention import mixed_padded_attention, padded_window_attention

from weakmedsam_ext.networks.sam_med3d import VolumeAttention
from weakmedsam_ext.networks.window_attention import WindowAttention

GRIDS = [
    ((6, 6), 0),
    ((8, 8), 4),
    ((5, 7), 3),
    ((9, 4), 4),
    ((4, 3, 5), 0),
    ((4, 4, 4), 2),
    ((4, 5, 3), 3),
    ((2, 2, 2), 5),
]
CUBES = [((4, 4, 4), 0), ((4, 4, 4), 2), ((4, 4, 4), 3), ((2, 2, 2), 5), ((5, 5, 5), 3)]


def random_attention(kind, grid, window, dtype=torch.float32):
    attention = kind(12, 2, grid, window).to(dtype)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


def gradients(attention, function, tokens):
    tokens = tokens.clone().requires_grad_()
    (function(tokens) * torch.linspace(-1, 1, tokens.numel(), dtype=tokens.dtype).view_as(tokens)).sum().backward()
    found = [tokens.grad, *(p.grad.clone() for p in attention.parameters())]
    attention.zero_grad()
    return found


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    "kind, oracle, grid, window",
    [(WindowAttention, padded_window_attention, *case) for case in GRIDS]
    + [(VolumeAttention, mixed_padded_attention, *case) for case in CUBES],
)
def test_equals_the_padded_computation_with_its_gradients(kind, oracle, grid, window, dtype, tolerance):
    attention = random_attention(kind, grid, window, dtype)
    tokens = torch.randn(2, *grid, 12, dtype=dtype)
    torch.testing.assert_close(attention(tokens), oracle(attention, tokens), rtol=0, atol=tolerance)
    ours, theirs = (gradients(attention, f, tokens) for f in (attention, lambda x: oracle(attention, x)))
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=10 * tolerance)


def test_dropping_the_padding_would_change_the_answer():
    attention = random_attention(WindowAttention, (4, 4), 3)
    tokens = torch.randn(1, 4, 4, 12)
    corner = tokens[:, 3:, 3:]  # the cut window: one real token, eight padded ones
    alone = attention.proj(attention.qkv(corner)[..., 24:])
    assert (attention(tokens)[:, 3:, 3:] - alone).abs().max() > 1e-2


def test_padding_of_negligible_weight_keeps_gradients_finite():
    attention = random_attention(WindowAttention, (3, 3), 4)
    with torch.no_grad():
        attention.qkv.bias.zero_()
        attention.rel_pos_h.zero_()
        attention.rel_pos_h[:1] = -1e4  # where a query meets the padded row
    tokens = torch.randn(1, 3, 3, 12)
    assert all(torch.isfinite(g).all() for g in gradients(attention, attention, tokens))


def test_bfloat16_is_close_to_float32():
    attention = random_attention(WindowAttention, (5, 5), 3)
    tokens = torch.randn(1, 5, 5, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = attention(tokens)
    assert (half.float() - attention(tokens)).abs().max() < 0.05 * attention(tokens).abs().max() + 0.05


def test_heads_must_divide_channels():
    with pytest.raises(ValueError, match="num_heads: expected a divisor of dim 12, but got 5"):
        WindowAttention(12, 5, (4, 4))
