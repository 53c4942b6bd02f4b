"""The oracle of `WindowAttention`: pad the grid, cut it into windows, attend with a dense matrix, as SAM does."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def padded_window_attention(attention, tokens):
    """Attention of `attention`'s weights over tokens (B, *grid, C), computed on the zero-padded grid."""
    grid = tokens.shape[1:-1]
    window = attention.window_size
    sides = [window or size for size in grid]
    padding = [p for size, side in zip(reversed(grid), reversed(sides), strict=True) for p in (0, -size % side)]
    padded = F.pad(tokens, (0, 0, *padding))
    out = torch.zeros_like(padded)
    starts = [range(0, size, side) for size, side in zip(padded.shape[1:-1], sides, strict=True)]
    for corner in torch.cartesian_prod(*(torch.tensor(list(r)) for r in starts)).reshape(-1, len(grid)).tolist():
        where = (slice(None), *(slice(c, c + side) for c, side in zip(corner, sides, strict=True)))
        out[where] = dense_attention(attention, padded[where])
    return out[(slice(None), *(slice(size) for size in grid))]


def dense_attention(attention, tokens):
    """Softmax attention inside one window (B, *sides, C), one query and key position at a time."""
    sides, heads = tokens.shape[1:-1], attention.num_heads
    flat = tokens.flatten(1, -2)
    q, k, v = attention.qkv(flat).chunk(3, dim=-1)
    q, k, v = (x.reshape(len(x), -1, heads, x.shape[-1] // heads).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    coordinates = torch.cartesian_prod(*(torch.arange(side) for side in sides)).reshape(-1, len(sides))
    for position, axis in enumerate(attention.axes):
        table = getattr(attention, f"rel_pos_{axis}")
        offset = coordinates[:, None, position] - coordinates[None, :, position] + sides[position] - 1
        scores = scores + torch.einsum("bhqc,qkc->bhqk", q, table[offset])
    out = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
    return attention.proj(out).view_as(tokens)
