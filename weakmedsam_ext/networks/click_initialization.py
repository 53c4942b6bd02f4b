"""Initial weights with which a promptable decoder looks where the click is, from the first training step."""

from __future__ import annotations

from torch import nn

from ._segment_anything import modeling

__all__ = ["aim_at_clicks"]


def aim_at_clicks(network: nn.Module, gain: float = 1.5) -> nn.Module:
    """Initialise the attention between prompts and image so that nearby positions attend to each other.

    SAM's positions are random Fourier features (Tancik et al., NeurIPS 2020): the inner product of two of them is a
    Gaussian of their distance. With PyTorch's independent projections of queries and keys it is lost, and a network
    that is trained from nothing ignores its clicks for some hundred steps. Here both projections start as the same
    orthogonal map, which keeps it. For training from random weights only: a checkpoint overwrites it.

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
    for attention in between:
        nn.init.orthogonal_(attention.q_proj.weight, gain)
        attention.k_proj.load_state_dict(attention.q_proj.state_dict())
        nn.init.zeros_(attention.q_proj.bias)
        nn.init.zeros_(attention.k_proj.bias)
    return network
