"""Pseudo-labelling of slices against the naive version: an encoding for the CAM and one a prompt, and a dense walk.

    python benchmarks/pseudo_label.py [--csv FILE] [--images 2] [--network samus_vit_b]

Both use the same weights and the same point grid on the same device; soft maps must agree within 1e-4, so that masks
agree but for pixels at the very threshold. "naive" encodes with our
network, which isolates the gain of encoding once and of the stencil; "published" encodes with padded windows too.
"""

from __future__ import annotations

import time
from contextlib import nullcontext

import fire
import torch
from common import best_time, report
from random_walk import naive_walk, neighbours
from torch import Tensor
from torch.nn import functional as F
from window_attention import Padded

from weakmedsam_ext.networks import CAMPseudoLabeler, PromptAffinity, WeakMedSAMNet, build_network
from weakmedsam_ext.networks.affinity_random_walk import min_max_scale
from weakmedsam_ext.networks.cam_pseudo_labeler import soft_to_mask

TOLERANCE = 1e-4


def naive_soft_maps(labeler: CAMPseudoLabeler, images: Tensor, labels: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Slice by slice and prompt by prompt, encoding anew each time."""
    net, affinity = labeler.cam_network, labeler.affinity
    soft = []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        cam = F.interpolate(net.cam(image).float(), (64, 64), mode="bilinear", align_corners=False)
        answers = []
        for point in affinity.points.unsqueeze(1):
            _, embedding = net.backbone.encode(image)
            answers.append(net.backbone.decode(embedding, point.unsqueeze(0), torch.ones(1, 1, 1))[0][:, 0])
        guide = F.interpolate(torch.stack(answers).sigmoid().mean(0), (64, 64), mode="area")
        refined = naive_walk(min_max_scale(cam)[0], guide[0], pairs, labeler.walk.num_steps)
        soft.append(labeler._soft(refined.unsqueeze(0), image.shape[-1], label > 0))
    return torch.cat(soft)


@torch.no_grad()
def main(csv: str | None = None, network: str = "samus_vit_b", images: int = 2, repeats: int = 1) -> None:
    """Compare both ways to pseudo-label.

    Args:
        csv: file for the table.
        network: name of the backbone.
        images: slices in the batch.
        repeats: timed repetitions.
    """
    torch.manual_seed(0)
    backbone = build_network(network, **({"img_size": 256} if network.startswith("efficient") else {}))
    net = WeakMedSAMNet(backbone, 2, 2).eval()
    labeler = CAMPseudoLabeler(net, PromptAffinity(backbone))
    batch = F.interpolate(torch.rand(images, 1, 16, 16), (256, 256), mode="bilinear")
    labels = torch.ones(images, 2)
    pairs = neighbours()
    ours = best_time(lambda: labeler(batch, labels), repeats)
    rows = []
    for name, encoding in (("naive", nullcontext()), ("published", Padded())):
        with encoding:
            start = time.perf_counter()
            expected = naive_soft_maps(labeler, batch, labels, pairs)
            slow = time.perf_counter() - start
            steps = labeler.steps(batch, labels)
        difference = float((steps.soft - expected).abs().max())
        if difference > TOLERANCE:
            raise AssertionError(f"The soft maps differ from the {name} version's by {difference}.")
        rows.append(
            {
                "network": network,
                "images": images,
                "against": name,
                "theirs s": slow,
                "ours s": ours,
                "times faster": slow / ours,
                "max difference": difference,
                "differing pixels": int((steps.mask != soft_to_mask(expected, labeler.threshold)).sum()),
                "pixels": steps.mask.numel(),
            }
        )
    report(rows, csv)


if __name__ == "__main__":
    fire.Fire(main)
