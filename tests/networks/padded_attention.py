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


def mixed_padded_attention(attention, tokens):
    """As `padded_window_attention`, with SAM-Med3D's mixed-up relative terms, written out query by query."""
    grid, window = tokens.shape[1:-1], attention.window_size
    side = window or grid[0]
    padding = [p for size in reversed(grid) for p in (0, -size % side)]
    padded = F.pad(tokens, (0, 0, *padding))
    out = torch.zeros_like(padded)
    starts = [range(0, size, side) for size in padded.shape[1:-1]]
    for corner in torch.cartesian_prod(*(torch.tensor(list(r)) for r in starts)).reshape(-1, 3).tolist():
        where = (slice(None), *(slice(c, c + side) for c in corner))
        out[where] = _mixed_dense_attention(attention, padded[where])
    return out[(slice(None), *(slice(size) for size in grid))]


def _mixed_dense_attention(attention, tokens):
    batch, side, heads = tokens.shape[0], tokens.shape[1], attention.num_heads
    q, k, v = attention.qkv(tokens).unflatten(-1, (3, heads, -1)).movedim(-2, 1).unbind(-2)  # (B, heads, d, h, w, c)
    out = torch.empty_like(v)
    reverse = torch.arange(side)
    for d in range(side):
        for h in range(side):
            # over (i, k) and (j, k), the same for all queries of the row
            term_h = q[:, :, d, h] @ attention.rel_pos_h[h - reverse + side - 1].T
            term_w = (q[:, :, d, h, :, None] * attention.rel_pos_w[reverse[:, None] - reverse + side - 1]).sum(-1)
            for w in range(side):
                scores = torch.einsum("bnc,bnijkc->bnijk", q[:, :, d, h, w], k) / q.shape[-1] ** 0.5
                scores = scores + (q[:, :, d, h, w] @ attention.rel_pos_d[d - reverse + side - 1].T)[:, :, None, None]
                scores = scores + term_h[:, :, :, None, :] + term_w[:, :, None, :, :]
                weights = scores.flatten(2).softmax(-1).view_as(scores)
                out[:, :, d, h, w] = torch.einsum("bnijk,bnijkc->bnc", weights, v)
    return attention.proj(out.movedim(1, -2).reshape(batch, side, side, side, -1))
