from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import SAMUS, build_network, load_checkpoint
from weakmedsam_ext.networks._segment_anything import modeling
from weakmedsam_ext.networks.point_decoder import FastAttention


def decode_as_published(network, embedding, points, labels, masks, multimask):
    """segment-anything's own prompt encoder and mask decoder, one image at a time; (Q, M, 4h, 4w) and (Q, M)."""
    sparse, dense = modeling.PromptEncoder.forward(network.prompt_encoder, (points, labels), None, masks)
    position = network.prompt_encoder.get_dense_pe()
    return modeling.MaskDecoder.forward(network.mask_decoder, embedding, position, sparse, dense, multimask)


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("name", ["sam_vit_tiny", "samus_tiny"])
def test_mask_prompts_equal_those_of_segment_anything(name, multimask, monkeypatch):
    network = build_network(name, img_size=64).eval()
    grid = 64 // network.stride
    embedding = torch.randn(2, 64, grid, grid)
    points, labels = 63 * torch.rand(2, 5, 2, 2), torch.tensor([1, 0]).expand(2, 5, 2)
    masks = 5 * torch.randn(2, 5, 1, 4 * grid, 4 * grid)
    logits, iou = network.decode(embedding, points, labels, multimask, masks)
    monkeypatch.setattr(FastAttention, "forward", modeling.transformer.Attention.forward)
    for b in range(2):
        want = decode_as_published(network, embedding[b : b + 1], points[b], labels[b], masks[b], multimask)
        for got, expected in zip((logits[b], iou[b]), want, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert (network.decode(embedding, points, labels, multimask)[0] - logits).abs().max() > 1e-4


@torch.no_grad()
def test_mask_prompts_do_not_mix_when_decoded_in_parts(monkeypatch):
    network = build_network("sam_vit_tiny", img_size=64).eval()
    embedding, masks = torch.randn(2, 64, 4, 4), torch.randn(2, 3, 1, 16, 16)
    prompts = 63 * torch.rand(2, 3, 1, 2), torch.ones(2, 3, 1)
    at_once = network.decode(embedding, *prompts, mask_logits=masks)
    monkeypatch.setattr("weakmedsam_ext.networks.point_decoder.CPU_BYTES", 4 * 2 * embedding[0].numel())
    in_parts = network.decode(embedding, *prompts, mask_logits=masks)
    for got, want in zip(in_parts, at_once, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "masks, message",
    [
        (torch.zeros(1, 2, 16, 16), r"mask_logits: expected shape \(1, 2, 1, 16, 16\), but got \(1, 2, 16, 16\)"),
        (torch.zeros(1, 2, 1, 64, 64), r"mask_logits: expected shape .* but got \(1, 2, 1, 64, 64\)"),
        (torch.zeros(1, 2, 1, 16, 16) > 0, "mask_logits: expected floating point logits, but got torch.bool"),
    ],
)
def test_wrong_mask_prompts_are_refused(masks, message):
    network = build_network("sam_vit_tiny", img_size=64)
    with pytest.raises(ValueError, match=message):
        network.decode(torch.zeros(1, 64, 4, 4), torch.ones(1, 2, 1, 2), torch.ones(1, 2, 1), mask_logits=masks)


@torch.no_grad()
def test_three_masks_of_a_volume_come_from_the_tokens_after_the_first():
    network = build_network("sam_med3d_tiny").eval()
    embedding = torch.randn(2, 96, 8, 8, 8)
    prompts = 60 * torch.rand(2, 2, 3), torch.ones(2, 2, dtype=torch.long), torch.randn(2, 1, 32, 32, 32)
    masks, iou = network.decode(embedding, *prompts, multimask=True)
    assert masks.shape == (2, 3, 32, 32, 32) and iou.shape == (2, 3)
    for token in (1, 2, 3):  # no order among the tokens: exchanged with token 0, it gives the single mask
        exchanged = build_network("sam_med3d_tiny").eval()
        exchanged.load_state_dict(exchange(network.state_dict(), token))
        single, single_iou = exchanged.decode(embedding, *prompts)
        torch.testing.assert_close(masks[:, token - 1 : token], single, rtol=0, atol=1e-5)
        torch.testing.assert_close(iou[:, token - 1 : token], single_iou, rtol=0, atol=1e-5)


def exchange(state, token):
    """State of a network whose mask tokens 0 and `token` change places."""
    order = list(range(4))
    order[0], order[token] = token, 0
    state = {key: value.clone() for key, value in state.items()}
    for key in ("mask_tokens.weight", "iou_prediction_head.layers.2.weight", "iou_prediction_head.layers.2.bias"):
        state[f"mask_decoder.{key}"] = state[f"mask_decoder.{key}"][order]
    prefix = "mask_decoder.output_hypernetworks_mlps."
    for key in [key for key in state if key.startswith(f"{prefix}0.")]:
        other = key.replace(f"{prefix}0.", f"{prefix}{token}.")
        state[key], state[other] = state[other], state[key]
    return state


@pytest.mark.parametrize(
    "name, dims, background, masks",
    [
        ("efficient_sam_tiny", 2, False, False),
        ("sam_vit_tiny", 2, True, True),
        ("samus_tiny", 2, True, True),
        ("sam_med3d_tiny", 3, True, True),
    ],
)
def test_networks_say_what_they_can_be_asked(name, dims, background, masks):
    network = build_network(name)
    said = (network.spatial_dims, network.takes_background_clicks, network.takes_masks)
    assert said == (dims, background, masks)
    network_class = type(network)
    assert said == (network_class.spatial_dims, network_class.takes_background_clicks, network_class.takes_masks)


@torch.no_grad()
@pytest.mark.parametrize("size", [64, 128, 264])
def test_samus_at_other_sizes(size):
    network = build_network("samus_tiny", img_size=size, depth=2, global_attn_indexes=(1,)).eval()
    features, embedding = network.encode(torch.rand(1, 1, size, size))
    assert features.shape == (1, 96, size // 8, size // 8)
    masks, _ = network.decode(embedding, torch.full((1, 1, 1, 2), size - 1.0), torch.ones(1, 1, 1))
    assert masks.shape[-1] == size // 2
    assert len(network.image_encoder.blocks[1].attn.rel_pos_h) == 2 * size // 8 - 1


@torch.no_grad()
def test_a_file_of_samus_at_256_pixels_fits_other_sizes():
    published = build_network("samus_tiny").state_dict()
    network = build_network("samus_tiny", img_size=128)
    assert load_checkpoint(network, published) == []
    table = "image_encoder.blocks.1.attn.rel_pos_h"
    want = torch.nn.functional.interpolate(published[table].T[None], 31, mode="linear", align_corners=False)[0].T
    assert torch.equal(network.state_dict()[table], want)
    encoder, whole = network.image_encoder, build_network("samus_tiny").image_encoder
    whole.load_state_dict({k.removeprefix("image_encoder."): v for k, v in published.items() if "image_enc" in k})
    halved = torch.nn.functional.avg_pool2d(whole.post_pos_embed(whole.pos_embed).permute(0, 3, 1, 2), 2)
    # bilinear at half the size is the mean of 2 x 2
    torch.testing.assert_close(encoder.post_pos_embed(encoder.pos_embed).permute(0, 3, 1, 2), halved)


@pytest.mark.parametrize("size", [0, 250])
def test_samus_at_sizes_that_the_stride_does_not_divide(size):
    with pytest.raises(ValueError, match=f"img_size: expected a positive multiple of 8, but got {size}"):
        SAMUS(img_size=size)
