"""Multi-head attention with decomposed relative positions, global or in windows, in two or three dimensions.

SAM pads its token grid with zeros to a multiple of the window, and real queries attend to the padded keys. This module
gives the same result without padding. Padded tokens enter after the norm as zeros, so the key of each is the key bias
and its value the value bias. All padded keys of a window therefore act like one extra key, see `_padding_log_weight`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._segment_anything import modeling

__all__ = ["TransformerBlock", "WindowAttention", "is_global_attention", "logsumexp"]

MLPBlock = modeling.common.MLPBlock
AXIS_NAMES = ("d", "h", "w")


class WindowAttention(nn.Module):
    """Self-attention over a grid of tokens, equal to that of SAM (Kirillov et al., ICCV 2023) with padded windows.

    Weights are softmax(q k^T / sqrt(head_dim) + sum over axes of q . r_axis[i - j]); the relative terms take the
    unscaled q (Li et al., MViTv2, CVPR 2022).

    Args:
        dim: channels of the tokens.
        num_heads: attention heads, a divisor of `dim`.
        grid_size: tokens along each axis, for example (h, w) or (d, h, w).
        window_size: tokens along each side of a window; 0 for attention over the whole grid.
    """

    def __init__(self, dim: int, num_heads: int, grid_size: Sequence[int], window_size: int = 0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads: expected a divisor of dim {dim}, but got {num_heads}.")
        self.num_heads = num_heads
        self.window_size = window_size
        self.axes = AXIS_NAMES[-len(grid_size) :]
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        for axis, size in zip(self.axes, grid_size, strict=True):
            table = torch.zeros(2 * (window_size or size) - 1, dim // num_heads)
            self.register_parameter(f"rel_pos_{axis}", nn.Parameter(table))

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend.

        Args:
            tokens: (B, *grid_size, C).

        Returns:
            (B, *grid_size, C).
        """
        grid = tokens.shape[1:-1]
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)  # each (B, *grid, heads, c)
        out = torch.empty_like(q)
        for region in product(*(self._spans(size) for size in grid)):
            where = (slice(None), *(slice(start, stop) for start, stop, _ in region))
            sides = [side for _, _, side in region]
            parts = [_partition(x[where], sides) for x in (q, k, v)]
            windows = self._attend(parts[0], parts[1], parts[2], sides)
            out[where] = _unpartition(windows, sides, q[where].shape)
        return self.proj(out.flatten(-2))

    def _spans(self, size: int) -> list[tuple[int, int, int]]:
        """(start, stop, side of the windows between) along one axis: the full windows, then the cut one at the
        border.
        """
        window = self.window_size or size
        full = size - size % window
        spans = [(0, full, window), (full, size, size - full)]
        return [(start, stop, side) for start, stop, side in spans if stop > start]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, sides: Sequence[int]) -> Tensor:
        """Attention inside windows of one real size.

        Args:
            q: queries (W, heads, prod(sides), c), W windows.
            k: keys, same shape.
            v: values, same shape.
            sides: real tokens along each side.
        """
        bias, padding = self._relative_bias(q, sides)
        if padding is not None:
            _, key_bias, value_bias = self._qkv_bias(k.dtype)
            k = torch.cat([k, key_bias.expand(k.shape[0], -1, -1, -1)], dim=-2)
            v = torch.cat([v, value_bias.expand(v.shape[0], -1, -1, -1)], dim=-2)
            bias = torch.cat([bias, padding.to(bias.dtype)], dim=-1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)

    def _qkv_bias(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of a padded token, each (heads, 1, c)."""
        q, k, v = self.qkv.bias.to(dtype).unflatten(0, (3, self.num_heads, 1, -1)).unbind(0)
        return q, k, v

    def _relative_bias(self, q: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Relative terms of the scores of the real keys, (W, heads, n, n), and the log weight that all padded keys
        share beside q . key bias, (W, heads, n, 1), or None in a window without padding.
        """
        terms = [
            self._relative_term(q, axis, position, sides) for position, axis in enumerate(self.axes)
        ]  # each (W, heads, n, keys along the axis, real ones first)
        bias = _outer_sum([term[..., :side] for term, side in zip(terms, sides, strict=True)])
        is_padded = any(side < term.shape[-1] for term, side in zip(terms, sides, strict=True))
        return bias, _padding_log_weight(terms, sides) if is_padded else None

    def _relative_term(self, q: Tensor, axis: str, position: int, sides: Sequence[int]) -> Tensor:
        """Product q . r[i - j] for every query and every key coordinate j along one axis of the padded window, (W,
        heads, n, keys).
        """
        relative = self._relative_table(axis, sides[position]).to(q.dtype)
        grid = q.unflatten(-2, tuple(sides)).movedim(2 + position, -2)  # (W, heads, other sides, side, c)
        term = torch.einsum("...sc,skc->...sk", grid, relative)
        return term.movedim(-2, 2 + position).flatten(2, -2)

    def _relative_table(self, axis: str, num_queries: int) -> Tensor:
        """r[i - j] for query coordinates i < num_queries and all key coordinates j of the padded window, (i, j, c)."""
        table = self.get_parameter(f"rel_pos_{axis}")  # (2 keys - 1, c)
        num_keys = (table.shape[0] + 1) // 2
        index = torch.arange(num_queries, device=table.device)[:, None] - torch.arange(num_keys, device=table.device)
        return table[index + num_keys - 1]


def is_global_attention(module: nn.Module) -> bool:
    """Whether a module is a `WindowAttention` over the whole grid."""
    return isinstance(module, WindowAttention) and not module.window_size


def _outer_sum(terms: Sequence[Tensor]) -> Tensor:
    """Sum terms of shape (..., a), (..., b), ... over all combinations of their last axes: (..., a * b * ...)."""
    total = terms[0]
    for term in terms[1:]:
        total = (total.unsqueeze(-1) + term.unsqueeze(-2)).flatten(-2)
    return total


def _padding_log_weight(terms: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """Log of sum over padded positions p of exp(sum over axes of term_axis[p_axis]), (W, heads, n, 1).

    The padded positions are the window without its real corner. That is a disjoint union of boxes: real along the first
    axes, padded along one, anything along the rest; the sum over a box factorises. (The difference of two products of
    sums would cancel when the padding weighs little.)
    """
    whole = [logsumexp(term) for term in terms]
    real = [logsumexp(term[..., :side]) for term, side in zip(terms, sides, strict=True)]
    boxes = []
    for axis, (term, side) in enumerate(zip(terms, sides, strict=True)):
        if side < term.shape[-1]:
            boxes.append(sum(real[:axis] + whole[axis + 1 :], logsumexp(term[..., side:])))
    return logsumexp(torch.stack(boxes, -1)).unsqueeze(-1)


def logsumexp(x: Tensor) -> Tensor:
    """Log of the sum of exponentials over the last axis, in float32 at least."""
    return torch.logsumexp(x.to(torch.promote_types(x.dtype, torch.float32)), -1)


def _partition(tokens: Tensor, sides: Sequence[int]) -> Tensor:
    """(B, *grid, heads, c) -> (B * windows, heads, prod(sides), c); the sides divide the grid."""
    num_axes = len(sides)
    for axis, side in enumerate(sides):
        tokens = tokens.unflatten(1 + 2 * axis, (-1, side))  # (B, n1, s1, n2, s2, ..., heads, c)
    counts = [1 + 2 * axis for axis in range(num_axes)]
    inner = [2 + 2 * axis for axis in range(num_axes)]
    tokens = tokens.permute(0, *counts, 2 * num_axes + 1, *inner, 2 * num_axes + 2)
    return tokens.flatten(num_axes + 2, -2).flatten(0, num_axes)


def _unpartition(windows: Tensor, sides: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Inverse of `_partition`; `shape` is that of the tokens, (B, *grid, heads, c)."""
    num_axes = len(sides)
    counts = [size // side for size, side in zip(shape[1:-2], sides, strict=True)]
    windows = windows.view(shape[0], *counts, shape[-2], *sides, shape[-1])
    order = [axis for pair in range(num_axes) for axis in (1 + pair, 2 + num_axes + pair)]
    return windows.permute(0, *order, 1 + num_axes, 2 + 2 * num_axes).reshape(shape)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block of SAM's image encoder: x + attention(norm(x)), then x + mlp(norm(x)).

    Args:
        dim: channels of the tokens.
        num_heads: attention heads.
        grid_size: tokens along each axis.
        window_size: side of the attention windows, 0 for global attention.
    """

    attention: type[WindowAttention] = WindowAttention

    def __init__(self, dim: int, num_heads: int, grid_size: Sequence[int], window_size: int = 0) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm1 = norm(dim)
        self.attn = self.attention(dim, num_heads, grid_size, window_size)
        self.norm2 = norm(dim)
        self.mlp = MLPBlock(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (B, *grid_size, dim) -> (B, *grid_size, dim)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))
