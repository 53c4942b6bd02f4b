"""A decoder that starts by looking where the click is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weakmedsam_ext.networks import NETWORKS, Prompter, build_network, init_click_attention


def distance_of_attention(network, size, token):
    """Mean distance, in pixels or voxels, that a token of the prompt attends to with one random click on noise."""
    dims = network.spatial_dims
    torch.manual_seed(1)
    points, labels = torch.randint(0, size, (8, 1, dims)), torch.ones(8, 1)
    embedding = Prompter(network).encode(torch.rand(1, 1, *[size] * dims))
    grid = [torch.arange(n) * size / n + size / n / 2 for n in embedding.shape[2:]]
    away = torch.cdist(points[:, 0].float(), torch.cartesian_prod(*grid))  # (8, tokens)
    found = []

    def look(layer, args, kwargs, _):
        q, k = (kwargs[name] if name in kwargs else args[i] for i, name in enumerate("qk"))
        q, k = (layer._separate_heads(p(x), layer.num_heads) for p, x in ((layer.q_proj, q), (layer.k_proj, k)))
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)[:, :, token]  # (8, heads, tokens)
        found.append((attention * away[:, None]).sum(-1).mean())

    layers = network.mask_decoder.transformer.layers
    hooks = [layer.cross_attn_token_to_image.register_forward_hook(look, with_kwargs=True) for layer in layers]
    with torch.no_grad():
        Prompter(network).answer(embedding, points[None], labels[None])
    for hook in hooks:
        hook.remove()
    return torch.stack(found).mean() / away.mean()


@pytest.mark.parametrize(
    ("name", "size"), [("sam_vit_tiny", 128), ("samus_small", 128), ("efficient_sam_tiny", 128), ("sam_med3d_tiny", 64)]
)
@pytest.mark.parametrize("token", [2, 5])
def test_masks_and_clicks_look_at_the_click(name, size, token):
    """Against PyTorch's initial weights, whose attention does not know where the click is. Token 5 is the click."""
    torch.manual_seed(0)
    aimed = build_network(name, img_size=size).eval()
    assert distance_of_attention(aimed, size, token) < 0.55
    usual = type(aimed)(**{**NETWORKS[name][1], "img_size": size}).eval()
    assert distance_of_attention(usual, size, token) > 0.85


@pytest.mark.parametrize(
    ("name", "size"), [("sam_vit_tiny", 128), ("samus_small", 128), ("efficient_sam_tiny", 128), ("sam_med3d_tiny", 32)]
)
def test_an_untrained_network_prefers_what_looks_like_the_place_of_the_click(name, size):
    """Tiles of two intensities: a click on the other kind raises the logits of the other kind."""
    overrides = {"patch_size": 4} if name == "sam_med3d_tiny" else {}
    tile = size // 4
    dims = 3 if name == "sam_med3d_tiny" else 2
    places = torch.stack(torch.meshgrid(*[torch.arange(size) // tile] * dims, indexing="ij"))
    odd = places.sum(0) % 2 == 1
    image = torch.where(odd, 0.9, 0.1)[None, None]
    gains = []
    for seed in range(6):
        torch.manual_seed(seed)
        network = build_network(name, img_size=size, **overrides).eval()
        clicks = torch.tensor([[tile // 2] * dims, [tile // 2] * (dims - 1) + [tile + tile // 2]])  # even, odd
        with torch.no_grad():
            prompter = Prompter(network)
            logits, _ = prompter.answer(prompter.encode(image), clicks[None, :, None], torch.ones(1, 2, 1))
        even_click, odd_click = torch.nn.functional.interpolate(logits[0], odd.shape)[:, 0]
        change = odd_click - even_click  # what does not depend on the click drops out
        gains.append(change[odd].mean() - change[~odd].mean())
    assert torch.stack(gains).mean() > 0.03 and sum(gain > 0 for gain in gains) >= 5


def test_padding_is_not_listened_to():
    """With more padding points the answer stays nearly the same, for the slots of EfficientSAM too."""
    for name in ("efficient_sam_tiny", "sam_vit_tiny"):
        torch.manual_seed(0)
        network = build_network(name, img_size=128).eval()
        with torch.no_grad():
            embedding = network.encode(torch.rand(1, 1, 128, 128))[1]
            one, _ = network.decode(embedding, torch.tensor([[[[40.0, 90.0]]]]), torch.ones(1, 1, 1))
            points = torch.tensor([[[[40.0, 90.0], [0.0, 0.0], [0.0, 0.0]]]])
            three, _ = network.decode(embedding, points, torch.tensor([[[1, -1, -1]]]))
        assert torch.corrcoef(torch.stack([one.flatten(), three.flatten()]))[0, 1] > 0.98


def test_too_few_channels_for_the_axes_are_refused():
    with pytest.raises(ValueError, match="expected at least 4 channels in each of 8 heads .* but got 2 and 16; raise"):
        build_network("sam_vit_tiny", prompt_dim=32)


def test_a_network_without_such_attention_is_refused():
    with pytest.raises(ValueError, match="Linear has no attention between prompts and image"):
        init_click_attention(nn.Linear(2, 2))


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
