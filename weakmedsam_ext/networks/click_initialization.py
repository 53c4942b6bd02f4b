"""Initial weights that let a promptable network attend to its clicks from the first training step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ._segment_anything import modeling
from .sam_med3d import SAMMed3D
from .samus import SAMUSEncoder

__all__ = ["init_click_attention"]

# Periods of the position features of the first and the last head, in sides of the image. Longer periods give attention
# a single peak, shorter ones make it narrower than most objects.
PERIODS = (2.0, 0.8)
RANDOM = 0.3  # factor on PyTorch's random weights where they are kept
PADDING = 4.0  # value of the channel that marks padding points


@torch.no_grad()
def init_click_attention(network: nn.Module, sharpness: float = 6.0) -> nn.Module:
    """Initialise a SAM-like network so that every mask starts as the similarity of the image to the clicked place.

    With default initialisation a 2-D network ignores clicks for hundreds of steps; a 3-D one never learns them.
    Attention does not find the click, token content outweighs positions in attention, and positions outweigh content in
    the embedding. This function changes three things:

    - **Position:** position features are sines and cosines of random frequencies (Tancik et al., NeurIPS 2020). Every
      head gets one frequency along each axis, about one period over the image, as its queries and keys. Its attention
      is then a von Mises kernel, exp(sharpness * sum_axis cos(2 pi f (x - y))), around the click. The channels of these
      features start without other content, and the mask tokens receive the features of the click.
    - **Content:** the mask tokens read the image embedding under the click. A mask is the inner product of that with
      the embedding of every cell, both projected alike (positive and negative parts separately, because of the ReLUs).
    - **Intensity:** patch weights are scaled up, and the normalised absolute positions of SAMUS are scaled down.

    SAM-Med3D swaps the first two axes in the positions of tokens but not in those of clicks; the projections undo that.
    Use it for training from random weights only: a checkpoint overwrites all of it.

    Args:
        network: with the prompt encoder and the mask decoder of SAM, in two or three dimensions; changed in place.
        sharpness: of the kernel; 6 makes it some 10 % of the image wide.

    Returns:
        the network.

    Raises:
        ValueError: when there is no such attention, or its heads or frequencies are too few for one of each axis.
    """
    between = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, modeling.transformer.Attention) and name.endswith(("token_to_image", "image_to_token"))
    }
    if not between:
        raise ValueError(f"{type(network).__name__} has no attention between prompts and image.")
    prompts: Any = network.prompt_encoder
    decoder: Any = network.mask_decoder
    frequencies: Tensor = prompts.pe_layer.positional_encoding_gaussian_matrix  # (axes, n)
    heads = next(iter(between.values())).num_heads
    _check_width(network, between, frequencies, heads)
    features = _set_frequencies(frequencies, heads)  # (heads, axes, 2)
    swapped = features[:, [1, 0, 2]] if isinstance(network, SAMMed3D) else features
    for name, attention in between.items():
        sides = (attention.q_proj, attention.k_proj)
        point_side, image_side = sides if name.endswith("token_to_image") else sides[::-1]
        _attend_by_position(point_side, features, sharpness)
        _attend_by_position(image_side, swapped, sharpness)

    where = features.flatten()
    marker = features.shape[0] * features.shape[1]  # sine of frequency 0, which is 0 at every position
    is_content = torch.ones(decoder.mask_tokens.embedding_dim, dtype=torch.bool)
    is_content[where] = False
    what = is_content.nonzero()[:, 0]
    _reserve_position_channels(network.image_encoder, prompts, decoder, where)
    _share_click_positions(prompts, decoder, where, marker)
    _compare_content(decoder, what)
    _scale_patch_weights(network.image_encoder)
    return network


def _check_width(network: nn.Module, between: dict[str, Any], frequencies: Tensor, heads: int) -> None:
    axes, count = frequencies.shape
    narrowest = min(attention.internal_dim for attention in between.values())
    if narrowest < 2 * axes * heads or count <= axes * heads:
        raise ValueError(
            f"{type(network).__name__}: expected at least {2 * axes} channels in each of {heads} heads and more than "
            f"{axes * heads} frequencies, but got {narrowest // heads} and {count}; raise prompt_dim."
        )


def _set_frequencies(frequencies: Tensor, heads: int) -> Tensor:
    """Make the first columns of (axes, n) one frequency along each axis for every head, then one of 0.

    Coordinates run from -1 to 1, so that a frequency of 0.5 has a period of one image.

    Returns:
        channels of the sine and cosine of every head and axis, (heads, axes, 2).
    """
    axes, count = frequencies.shape
    longest, shortest = PERIODS
    for head, frequency in enumerate(torch.linspace(0.5 / longest, 0.5 / shortest, heads).tolist()):
        frequencies[:, head * axes : (head + 1) * axes] = frequency * torch.eye(axes)
    frequencies[:, heads * axes] = 0
    sines = torch.arange(heads * axes).view(heads, axes)
    return torch.stack([sines, sines + count], dim=-1)


def _attend_by_position(projection: nn.Linear, features: Tensor, sharpness: float) -> None:
    """Make every head's first outputs its own position features (heads, axes, 2), scaled for the sharpness."""
    width = projection.out_features // len(features)
    gain = math.sqrt(sharpness * math.sqrt(width))  # attention divides by the root of the width
    for row, wanted in zip(projection.weight.view(len(features), width, -1), features.flatten(1), strict=True):
        row[: len(wanted)] = 0
        row[torch.arange(len(wanted)), wanted] = gain
    nn.init.zeros_(projection.bias)


def _reserve_position_channels(encoder: Any, prompts: Any, decoder: Any, where: Tensor) -> None:
    """Keep content out of the position channels of image tokens and prompt tokens."""
    image_side = [encoder.neck[-1].weight, *(block.norm4.weight for block in decoder.transformer.layers)]
    embeddings = [
        decoder.iou_token,
        decoder.mask_tokens,
        *(m for m in prompts.modules() if isinstance(m, nn.Embedding)),
    ]
    for weight in (*image_side, *(embedding.weight for embedding in embeddings)):
        weight[..., where] = 0
    written = [prompts.mask_downscaling[-1]] if hasattr(prompts, "mask_downscaling") else []
    for block in decoder.transformer.layers:
        written += [block.self_attn.out_proj, block.cross_attn_token_to_image.out_proj, _linear_layers(block.mlp)[-1]]
    for layer in written:
        layer.weight[where] = 0
        layer.bias[where] = 0


def _share_click_positions(prompts: Any, decoder: Any, where: Tensor, marker: int) -> None:
    """Let the first self-attention copy the positions of the clicks to all tokens; it ignores padding points."""
    padding = prompts.not_a_point_embed if hasattr(prompts, "not_a_point_embed") else prompts.invalid_points
    others = [m for m in prompts.modules() if isinstance(m, nn.Embedding) and m is not padding]
    for embedding in (decoder.iou_token, decoder.mask_tokens, *others):
        embedding.weight[:, marker] = 0
    padding.weight[:] = 0
    padding.weight[:, marker] = PADDING
    for tokens in (decoder.iou_token, decoder.mask_tokens):
        tokens.weight.mul_(0.1)  # content read from the image should outweigh the initial tokens
    attention = decoder.transformer.layers[0].self_attn
    width = attention.internal_dim // attention.num_heads
    first = torch.arange(attention.num_heads) * width
    for projection in (attention.q_proj, attention.k_proj):
        projection.weight[first] = 0
        projection.bias[:] = 0
    attention.q_proj.bias[first] = PADDING
    attention.k_proj.weight[first, marker] = -PADDING
    attention.v_proj.weight[where] = 0
    attention.v_proj.bias[where] = 0
    attention.v_proj.weight[where, where] = 1
    # attention averages over many tokens, of which the click is one
    attention.out_proj.weight[where, where] = 2.0 + decoder.num_mask_tokens


def _compare_content(decoder: Any, what: Tensor) -> None:
    """Make masks inner products of the content under the click with the content of every cell."""
    transformer = decoder.transformer
    reading = [layer.cross_attn_token_to_image for layer in transformer.layers] + [
        transformer.final_attn_token_to_image
    ]
    taken = nn.init.orthogonal_(torch.empty(reading[0].internal_dim, len(what)))
    for attention in reading:
        attention.v_proj.weight[:] = 0
        attention.v_proj.weight[:, what] = taken
        attention.out_proj.weight[:] = attention.v_proj.weight.T
        nn.init.zeros_(attention.v_proj.bias)
        nn.init.zeros_(attention.out_proj.bias)

    upscaling: list[Any] = [m for m in decoder.modules() if isinstance(m, (nn.ConvTranspose2d, nn.ConvTranspose3d))]
    first, second = upscaling
    half, directions = first.out_channels // 2, second.out_channels // 2
    compared = nn.init.orthogonal_(torch.empty(half, len(what)))
    signed = torch.zeros(2 * half, first.in_channels)
    signed[:, what] = torch.cat([compared, -compared])
    kept = torch.zeros(second.out_channels, 2 * half)
    kept[:directions, :directions] = torch.eye(directions)
    kept[directions : 2 * directions, half : half + directions] = torch.eye(directions)
    for layer, weight in ((first, signed), (second, kept)):
        ones = (1,) * (layer.weight.ndim - 2)
        layer.weight.mul_(RANDOM).add_(weight.T.reshape(*weight.T.shape, *ones))
    first.bias[:] = 0
    for mlp in decoder.output_hypernetworks_mlps:
        _project_content(mlp, compared[:directions], what)


def _project_content(mlp: nn.Module, compared: Tensor, what: Tensor) -> None:
    """Make three layers return the projection of a token's content onto directions (n, len(what)), and its negative."""
    inner, middle, outer = _linear_layers(mlp)
    directions, hidden = len(compared), inner.out_features
    signed = torch.zeros(hidden, inner.in_features)
    signed[:directions, what] = compared
    signed[hidden // 2 : hidden // 2 + directions, what] = -compared
    collected = torch.zeros(outer.out_features, hidden)
    one = torch.eye(directions) / math.sqrt(directions)
    for rows, sign in ((slice(0, directions), 1), (slice(directions, 2 * directions), -1)):
        collected[rows, :directions] = sign * one
        collected[rows, hidden // 2 : hidden // 2 + directions] = -sign * one
    for layer, weight in ((inner, signed), (middle, torch.eye(hidden)), (outer, collected)):
        layer.weight.mul_(RANDOM).add_(weight)


def _scale_patch_weights(encoder: Any) -> None:
    encoder.patch_embed.proj.weight.mul_(3)
    if isinstance(encoder, SAMUSEncoder):
        encoder.post_pos_embed.scale(0.02)


def _linear_layers(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
