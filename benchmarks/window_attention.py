"""Encoding with exact unpadded windows against the published computation, which pads every window.

    python benchmarks/window_attention.py [--csv FILE] [--device cuda]

Both encode the same image with the same weights of the full-size network; the answers are compared. FLOPs are counted
by PyTorch. Times are the best of a few repetitions.
"""

from __future__ import annotations

from contextlib import nullcontext

import fire
import torch
from common import report, seconds
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from weakmedsam_ext.networks import build_network
from weakmedsam_ext.networks.sam_med3d import VolumeAttention
from weakmedsam_ext.networks.window_attention import WindowAttention


def padded_attention(attention: WindowAttention, tokens: Tensor) -> Tensor:
    """The published attention: pad the grid with zeros, cut it into windows, build the whole score matrix."""
    grid = tokens.shape[1:-1]
    side = [attention.window_size or size for size in grid]
    padding = [p for size, s in zip(reversed(grid), reversed(side), strict=True) for p in (0, -size % s)]
    padded = F.pad(tokens, (0, 0, *padding))
    n = len(grid)
    windows = padded
    for axis, s in enumerate(side):
        windows = windows.unflatten(1 + 2 * axis, (-1, s))
    order = [*range(1, 2 * n, 2), *range(2, 2 * n + 1, 2)]
    counts = [windows.shape[i] for i in order[:n]]
    windows = windows.permute(0, *order, 2 * n + 1).flatten(0, n)  # (windows, *side, C)
    out = _attend(attention, windows, side).unflatten(0, (-1, *counts))
    back = [axis for pair in range(n) for axis in (1 + pair, 1 + n + pair)]
    out = out.permute(0, *back, 2 * n + 1).reshape(padded.shape)
    return out[(slice(None), *(slice(size) for size in grid))]


def _attend(attention: WindowAttention, windows: Tensor, side: list[int]) -> Tensor:
    q, k, v = attention.qkv(windows).flatten(1, -2).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    grid = q.unflatten(-2, side)
    terms = [
        torch.einsum(f"bn{'xyz'[: len(side)]}c,{'xyz'[i]}kc->bn{'xyz'[: len(side)]}k", grid, _table(attention, axis))
        for i, axis in enumerate(attention.axes)
    ]
    shape = (*scores.shape[:2], *side, *side)
    if isinstance(attention, VolumeAttention):  # published with its axes mixed up, see there
        d, h, w = terms
        scores = scores.view(shape) + d[..., None, None, :] + h[..., None, :, None, :] + w[..., None, None, :, :]
    elif len(side) == 2:
        scores = scores.view(shape) + terms[0][..., None] + terms[1][..., None, :]
    weights = scores.view(*q.shape[:3], -1).softmax(-1)
    return attention.proj((weights @ v).transpose(1, 2).flatten(2)).view_as(windows)


def _table(attention: WindowAttention, axis: str) -> Tensor:
    table = attention.get_parameter(f"rel_pos_{axis}")
    size = (table.shape[0] + 1) // 2
    index = torch.arange(size)
    return table[(index[:, None] - index + size - 1).to(table.device)]


class Padded:
    """Encode as published while this context is open."""

    def __enter__(self) -> None:
        self.forward = WindowAttention.forward
        WindowAttention.forward = padded_attention

    def __exit__(self, *_: object) -> None:
        WindowAttention.forward = self.forward


@torch.no_grad()
def compare(name: str, shape: tuple[int, ...], device: str, repeats: int) -> dict[str, object]:
    network = build_network(name).to(device).eval().requires_grad_(False)
    for key, parameter in network.named_parameters():
        if "rel_pos" in key or key.endswith("qkv.bias"):  # zero at first, which would hide an error
            torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(shape, device=device)
    answers, times, flops = [], {False: [], True: []}, []
    for is_padded in (False, True):
        with Padded() if is_padded else nullcontext(), FlopCounterMode(display=False) as counter:
            encoded = network.encode(image)
        answers.append(encoded if isinstance(encoded, Tensor) else encoded[1])
        flops.append(counter.get_total_flops() / 1e9)
    for is_padded in (False, True) * repeats:  # in turn, so that other work on the machine hits both
        with Padded() if is_padded else nullcontext():
            times[is_padded].append(seconds(lambda: network.encode(image), device))
    slow, fast = min(times[True]), min(times[False])
    difference = float((answers[0] - answers[1]).abs().max())
    if difference > 1e-4:
        raise AssertionError(f"{name}: the two encodings differ by {difference}")
    return {
        "network": name,
        "input": "x".join(map(str, shape)),
        "padded s": slow,
        "ours s": fast,
        "times faster": slow / fast,
        "padded GFLOP": flops[1],
        "ours GFLOP": flops[0],
        "max difference": difference,
    }


def main(csv: str | None = None, device: str = "cpu", repeats: int = 3) -> None:
    """Compare both ways to encode, for SAM-Med3D at 128^3 and SAMUS at 256^2.

    Args:
        csv: file for the table.
        device: "cpu" or "cuda".
        repeats: timed repetitions.
    """
    cases = [("sam_med3d", (1, 1, 128, 128, 128)), ("samus_vit_b", (1, 1, 256, 256)), ("samus_vit_b", (4, 1, 256, 256))]
    report([compare(name, shape, device, repeats) for name, shape in cases], csv)


if __name__ == "__main__":
    fire.Fire(main)
