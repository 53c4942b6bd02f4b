"""Time of encoding an image or a volume, and of one answer to one click, on one core unless torch may use more.

    python benchmarks/click_speed.py [--csv FILE] [--networks "[['click_net_2d', 128]]"] [--repeats 5]

Each network gets the size that it was trained for, to which a slice or volume would have to be resized, and ViT-B also
the size of our slices. Weights and images are random; times do not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fire
import torch
from common import best_time, report

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


@torch.no_grad()
def measure(name: str, size: int, repeats: int, device: str) -> dict[str, Any]:
    """One row of the table."""
    prompter = Prompter(build_network(name, pretrained=False, img_size=size).eval().to(device))
    dims = prompter.spatial_dims
    image = torch.rand(1, 1, *(size,) * dims, device=device)
    points = torch.full((1, 1, 1, dims), size // 2, device=device)
    labels = torch.ones(1, 1, 1, dtype=torch.long, device=device)
    embedding = prompter.encode(image)
    return {
        "network": name,
        "input": "x".join([str(size)] * dims),
        "million_weights": sum(p.numel() for p in prompter.parameters()) / 1e6,
        "encode_ms": 1e3 * best_time(lambda: prompter.encode(image), repeats, device),
        "answer_ms": 1e3 * best_time(lambda: prompter.answer(embedding, points, labels), repeats, device),
        "threads": torch.get_num_threads(),
    }


def main(
    networks: Sequence[Sequence[Any]] = NETWORKS, repeats: int = 5, device: str = "cpu", csv: str | None = None
) -> None:
    """Measure.

    Args:
        networks: name for `build_network` and side of the input, of each.
        repeats: of which the fastest counts.
        device: where.
        csv: file for the table.
    """
    report([measure(name, size, repeats, device) for name, size in networks], csv)


if __name__ == "__main__":
    fire.Fire(main)
