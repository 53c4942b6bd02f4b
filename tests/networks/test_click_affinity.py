"""Masks that follow what is like the clicks, against loops over cells."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from weakmedsam_ext.networks import ClickAffinity, Prompter, build_network, point_decoder

NETWORKS = [("samus_small", 32), ("sam_med3d_small", 16)]


def small(name, size, seed=0):
    torch.manual_seed(seed)
    return build_network(name, img_size=size, detail_dim=8, depth=2, global_attn_indexes=(1,)).eval()


def prompts(dims, size):
    """Two images with two sets of three points, of both kinds and padding."""
    labels = torch.tensor([[1, 0, 1], [1, -1, -1]])
    return torch.randint(size, (2, 2, 3, dims)), labels.expand(2, 2, 3)


@torch.no_grad()
@pytest.mark.parametrize(("dims", "cell"), [(2, 1), (2, 2), (3, 1)])
def test_affinity_by_hand(dims, cell):
    """exp(-gain * mean distance) to the nearest click of a kind, 0 where there is none; cells in array index order."""
    torch.manual_seed(0)
    module = ClickAffinity(dims, 6, 5, cell, detail_dim=3, gain=2.0)
    upsample = nn.Upsample(scale_factor=4) if dims == 2 else nn.Upsample(scale_factor=(4, 4, 4))
    size = 8 * cell
    image = torch.rand(2, 1, *[size] * dims)
    tokens = torch.randn(2, 6, *[2] * dims)
    embedding = module.append(tokens, image, lambda x: upsample(x[:, :5]))
    points, labels = prompts(dims, size)
    details = module.details(image)
    features = upsample(tokens[:, :5]) + details
    cells = module(embedding, points, labels)
    assert all(torch.equal(*pair) for pair in zip(module.split(embedding), (tokens, details, features), strict=True))
    assert torch.equal(cells.details, details)
    for row in range(4):
        b, q = divmod(row, 2)
        for kind, found in zip((1, 0), cells.affinity[row], strict=False):
            want = torch.zeros_like(found)
            for point, label in zip(points[b, q], labels[b, q], strict=True):
                if label == kind:
                    at = features[(b, slice(None), *(point // cell))]
                    distance = (features[b].movedim(0, -1) - at).abs().mean(-1)
                    want = torch.maximum(want, torch.exp(-2.0 * distance))
            torch.testing.assert_close(found, want, rtol=0, atol=1e-5)
        assert (cells.affinity[row, 2] == 1).all()


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.parametrize("multimask", [False, True])
def test_a_mask_is_that_of_the_decoder_and_the_affinity(name, size, multimask):
    """What a decoder without it gives for details of 0, plus the maps weighed by the heads."""
    network = small(name, size)
    prompter = Prompter(network)
    points, labels = prompts(network.spatial_dims, size)
    nn.init.zeros_(network.click_affinity.details[-1].weight)
    nn.init.zeros_(network.click_affinity.details[-1].bias)
    embedding = prompter.encode(torch.rand(2, 1, *[size] * network.spatial_dims))
    masks, iou = prompter.answer(embedding, points, labels, multimask)
    affinity = network.click_affinity
    maps = affinity(embedding, points, labels).affinity
    network.click_affinity = None
    plain, plain_iou = prompter.answer(affinity.split(embedding)[0], points, labels, multimask)
    added = 6 * maps[:, 0] - 6 * maps[:, 1] - 3
    torch.testing.assert_close(masks - plain, added.unflatten(0, (2, 2)).unsqueeze(2).expand_as(masks))
    torch.testing.assert_close(iou, plain_iou)


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_prompt_sets_do_not_mix(name, size, monkeypatch):
    """Decoded in parts, and one after the other."""
    network = small(name, size)
    for head in network.click_affinity.heads:
        nn.init.normal_(head.weight)
    prompter = Prompter(network)
    points, labels = prompts(network.spatial_dims, size)
    embedding = prompter.encode(torch.rand(2, 1, *[size] * network.spatial_dims))
    together, _ = prompter.answer(embedding, points, labels, True)
    monkeypatch.setattr(point_decoder, "CPU_BYTES", 1)
    torch.testing.assert_close(prompter.answer(embedding, points, labels, True)[0], together, rtol=0, atol=1e-4)
    for b in range(2):
        for q in range(2):
            alone, _ = prompter.answer(embedding[b : b + 1], points[b : b + 1, [q]], labels[b : b + 1, [q]], True)
            torch.testing.assert_close(alone[0, 0], together[b, q], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_gradients_reach_details_and_heads(name, size):
    network = small(name, size).train()
    prompter = Prompter(network)
    points, labels = prompts(network.spatial_dims, size)
    embedding = prompter.encode(torch.rand(2, 1, *[size] * network.spatial_dims))
    prompter.answer(embedding, points, labels)[0].sigmoid().mean().backward()
    used = [*network.click_affinity.details.parameters(), *network.click_affinity.heads[0].parameters()]
    assert all(parameter.grad.abs().max() > 0 for parameter in used)


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_an_untrained_network_answers_by_what_is_like_the_click(name, size):
    """Halves of two intensities: a click raises the logits of its half; what no click changes drops out."""
    half = torch.zeros(1, 1, *[size] * (3 if "3d" in name else 2))
    half[..., size // 2 :] = 1
    for seed in range(3):
        network = small(name, size, seed)
        prompter = Prompter(network)
        dims = network.spatial_dims
        points = torch.tensor([[size // 2] * (dims - 1) + [column] for column in (size // 8, size - size // 8)])
        masks, _ = prompter.answer(prompter.encode(half), points[None, :, None], torch.ones(1, 2, 1))
        left, right = masks[0, :, 0].unflatten(-1, (2, -1)).flatten(1, -3).mean((1, 3)).unbind()
        assert (left[0] - right[0]) - (left[1] - right[1]) > 1
