"""Decoding a grid of prompts for a batch of images: all at once against one by one.

python benchmarks/prompt_decoding.py [--csv FILE] [--device cuda]
"""

from __future__ import annotations

import fire
import torch
from common import best_time, report

from weakmedsam_ext.networks import build_network


@torch.no_grad()
def compare(name: str, batch: int, prompts: int, device: str, repeats: int) -> dict[str, object]:
    network = build_network(name, **({"img_size": 256} if name.startswith("efficient") else {})).to(device).eval()
    embedding = network.encode(torch.rand(batch, 1, 256, 256, device=device))[1]
    points = 255 * torch.rand(batch, prompts, 1, 2, device=device)
    labels = torch.ones(batch, prompts, 1, device=device)

    def together():
        return network.decode(embedding, points, labels)[0]

    def one_by_one():
        answers = [
            network.decode(embedding[b : b + 1], points[b : b + 1, q : q + 1], labels[b : b + 1, q : q + 1])[0]
            for b in range(batch)
            for q in range(prompts)
        ]
        return torch.cat(answers).unflatten(0, (batch, prompts)).squeeze(2)

    difference = float((together() - one_by_one()).abs().max())
    if difference > 1e-5:
        raise AssertionError(f"{name}: the two answers differ by {difference}")
    slow, fast = (best_time(function, repeats, device) for function in (one_by_one, together))
    return {
        "network": name,
        "images": batch,
        "prompts": prompts,
        "one by one s": slow,
        "together s": fast,
        "times faster": slow / fast,
        "max difference": difference,
    }


def main(csv: str | None = None, device: str = "cpu", repeats: int = 3) -> None:
    """Compare both ways to decode.

    Args:
        csv: file for the table.
        device: "cpu" or "cuda".
        repeats: timed repetitions.
    """
    names = ["samus_vit_b", "efficient_sam_vitt", "efficient_sam_tiny"]
    report([compare(name, batch, 16, device, repeats) for name in names for batch in (1, 4)], csv)


if __name__ == "__main__":
    fire.Fire(main)
