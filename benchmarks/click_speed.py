"""Processor time of encoding an image or a volume, and of one answer to one click, on one core.

    OMP_NUM_THREADS=1 python benchmarks/click_speed.py [--csv FILE] [--networks "[['click_net_2d', 128]]"]

Each network gets the size that it was trained for, to which a slice or volume would have to be resized, and ViT-B also
the size of our slices. Weights and images are random; times do not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import fire
import torch
from common import report

from weakmedsam_ext.networks import Prompter, build_network

NETWORKS = (
    ("click_net_2d", 128),
    ("samus_vit_b", 128),
    ("samus_vit_b", 256),
    ("sam_vit_b", 128),
    ("sam_vit_b", 1024),
    ("efficient_sam_vitt", 1024),
    ("click_net_3d", 64),
    ("click_net_3d", 128),
    ("sam_med3d", 128),
)


def processor_ms(function: Callable[[], Any], repeats: int) -> float:
    """Least processor time of a call, after one that is not counted: other jobs on the machine count for little."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


@torch.no_grad()
def measure(name: str, size: int, repeats: int) -> dict[str, Any]:
    """One row of the table."""
    prompter = Prompter(build_network(name, pretrained=False, img_size=size).eval())
    dims = prompter.spatial_dims
    image = torch.rand(1, 1, *(size,) * dims)
    points = torch.full((1, 1, 1, dims), size // 2)
    labels = torch.ones(1, 1, 1, dtype=torch.long)
    embedding = prompter.encode(image)
    return {
        "network": name,
        "input": "x".join([str(size)] * dims),
        "million_weights": sum(p.numel() for p in prompter.parameters()) / 1e6,
        "encode_ms": processor_ms(lambda: prompter.encode(image), repeats),
        "answer_ms": processor_ms(lambda: prompter.answer(embedding, points, labels), repeats),
    }


def main(networks: Sequence[Sequence[Any]] = NETWORKS, repeats: int = 3, csv: str | None = None) -> None:
    """Measure.

    Args:
        networks: name for `build_network` and side of the input, of each.
        repeats: of which the fastest counts.
        csv: file for the table.
    """
    torch.set_num_threads(1)
    report([measure(name, size, repeats) for name, size in networks], csv)


if __name__ == "__main__":
    fire.Fire(main)
