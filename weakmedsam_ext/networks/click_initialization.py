"""Initial weights with which a promptable decoder looks where the click is, from the first training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._segment_anything import modeling
from .sam_med3d import SAMMed3D

__all__ = ["aim_at_clicks"]


def aim_at_clicks(network: nn.Module, gain: float = 1.5) -> nn.Module:
    """Initialise the attention between prompts and image so that nearby positions attend to each other.

    SAM's positions are random Fourier features (Tancik et al., NeurIPS 2020): the inner product of two of them is a
    Gaussian of their distance. With PyTorch's independent projections of queries and keys it is lost, and a network
    that is trained from nothing ignores its clicks for some hundred steps. Here both projections start as the same
    orthogonal map, which keeps it. SAM-Med3D swaps the first two axes of the tokens' positions, but not of the
    clicks'; its random frequencies are therefore changed so that each has a twin with these axes swapped, and the
    projections start by exchanging twins. For training from random weights only: a checkpoint overwrites it.

    Args:
        network: with the attention layers of SAM's two-way transformer, in two or three dimensions; changed in place.
        gain: of the projections; the attention's logits grow with its square.

    Returns:
        the network.

    Raises:
        ValueError: when there is no such layer.
    """
    between = [
        module
        for name, module in network.named_modules()
        if isinstance(module, modeling.transformer.Attention) and name.endswith(("token_to_image", "image_to_token"))
    ]
    if not between:
        raise ValueError(f"{type(network).__name__} has no attention between prompts and image.")
    twins = _twin_frequencies(network) if isinstance(network, SAMMed3D) else slice(None)
    for attention in between:
        nn.init.orthogonal_(attention.q_proj.weight, gain)
        attention.k_proj.load_state_dict({**attention.q_proj.state_dict(), "weight": attention.q_proj.weight[:, twins]})
        nn.init.zeros_(attention.q_proj.bias)
        nn.init.zeros_(attention.k_proj.bias)
    return network


def _twin_frequencies(network: SAMMed3D) -> Tensor:
    """Give every frequency a twin with axes 0 and 1 swapped; returns which feature is the twin of each."""
    frequencies = network.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix  # (3, n)
    n = frequencies.shape[1]
    half = n // 2
    frequencies[:, half : 2 * half] = frequencies[[1, 0, 2], :half]
    twin = torch.arange(n)
    twin[:half], twin[half : 2 * half] = torch.arange(half, 2 * half), torch.arange(half)
    return torch.cat([twin, twin + n, twin + 2 * n])  # features are (sin, cos, sin) of all frequencies
