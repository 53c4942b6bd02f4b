"""A decoder that starts by looking where the click is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weakmedsam_ext.networks import aim_at_clicks, build_network


def attention_of_click(network, layer, click, position):
    """Attention (heads, h * w) of a token at the click to positions (P, h, w), of positions alone."""
    query = layer.q_proj(click).unflatten(-1, (layer.num_heads, -1))
    key = layer.k_proj(position.flatten(1).T).unflatten(-1, (layer.num_heads, -1))
    return torch.einsum("hc,nhc->hn", query, key).softmax(-1)


@pytest.mark.parametrize("name", ["sam_vit_tiny", "efficient_sam_tiny"])
def test_attention_is_largest_near_the_click(name):
    """Against the usual initialisation, whose attention does not know where the click is."""
    torch.manual_seed(0)
    near = {}
    for aimed in (True, False):
        network = build_network(name, img_size=128)
        if not aimed:
            for module in network.mask_decoder.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
        pe_layer = network.prompt_encoder.pe_layer
        position = pe_layer((16, 16))
        layer = network.mask_decoder.transformer.layers[0].cross_attn_token_to_image
        distances = []
        for x in range(4, 128, 24):
            click = pe_layer.forward_with_coords(torch.tensor([[[x + 0.5, 64.5]]]), (128, 128))[0, 0]
            attention = attention_of_click(network, layer, click, position).mean(0).view(16, 16)
            columns, rows = torch.meshgrid(torch.arange(16) * 8 + 4, torch.arange(16) * 8 + 4, indexing="xy")
            distances.append((attention * ((columns - x) ** 2 + (rows - 64) ** 2).sqrt()).sum())
        near[aimed] = torch.stack(distances).mean()
    assert near[True] < 0.85 * near[False]


def test_a_network_without_such_attention_is_refused():
    with pytest.raises(ValueError, match="Linear has no attention between prompts and image"):
        aim_at_clicks(nn.Linear(2, 2))


def test_clicks_in_volumes_meet_the_swapped_axes_of_their_tokens():
    """Without the twins a click would look at the place with its first two coordinates exchanged."""
    torch.manual_seed(0)
    network = build_network("sam_med3d_tiny")
    encoder = network.prompt_encoder
    layer = network.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    keys = layer.k_proj(encoder.dense_position((8, 8, 8))[0].flatten(1).T)
    found = []
    for cell in ((1, 6, 4), (6, 2, 5), (3, 5, 1)):
        query = layer.q_proj(encoder.pe_layer((torch.tensor(cell) + 0.5) / 8))
        found.append(torch.unravel_index((keys @ query).argmax(), (8, 8, 8)))
    assert [tuple(int(i) for i in cell) for cell in found] == [(1, 6, 4), (6, 2, 5), (3, 5, 1)]
