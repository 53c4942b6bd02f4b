"""Does prompt affinity earn its place? Pseudo-labels of real slices, with and without walks along different guides.

python benchmarks/prompt_affinity.py --dataset_dir Task02_Heart --output_dir RUN --checkpoint model.pt [--csv FILE]

RUN is an output folder of the bundle weakmedsam_msd_heart after its stage train_cam (models/cam.pt, slices/); model.pt
comes from promptable_pretrain_2d. Every guide gets the threshold, the walk and the way to combine answers that are best
on a few training cases; the table is made on the others. Masks are read for this alone. Dice is that of whole volumes
on the slices' grid, of the slices that are known to show the structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import fire
import torch
from common import dice, report
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from weakmedsam_ext.data import SliceStudy, load_case_mask
from weakmedsam_ext.networks import (
    AffinityRandomWalk,
    CAMPseudoLabeler,
    PromptAffinity,
    WeakMedSAMNet,
    build_network,
    load_checkpoint,
)

THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
WALKS = tuple(product((4.0, 16.0, 64.0), (16, 64)))  # beta, steps


class ImageGuide(nn.Module):
    """The slice itself as guide: what a walk gains without any promptable network."""

    size = 64

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        """Slices (B, 1, H, W) on the walk's grid."""
        return F.interpolate(image[:, :1], (self.size, self.size), mode="area")


def guides(trained: nn.Module, untrained: nn.Module) -> dict[str, list[tuple[str, Any]]]:
    """Title of a row -> its candidates, each with a name."""
    asked = [
        (f"{combine}, mask {scale}, {grid} x {grid}", combine, scale, grid)
        for combine, scale, grid in product(("mean_probability", "probabilities"), (None, 0, 1, 2), (4, 8))
        if (combine, grid) != ("probabilities", 8)  # 64 channels: slow
    ]

    def of(network: nn.Module) -> list[tuple[str, Any]]:
        return [(name, PromptAffinity(network, grid, combine, scale=scale)) for name, combine, scale, grid in asked]

    def features(network: nn.Module) -> list[tuple[str, Any]]:
        return [("", PromptAffinity(network, combine="features"))]

    return {
        "CAM alone": [("", None)],
        "image": [("", ImageGuide(trained))],
        "random weights": of(untrained),
        "pre-trained": of(trained),
        "features, random weights": features(untrained),
        "features, pre-trained": features(trained),
    }


def volume_dice(maps: Tensor, masks: Tensor) -> list[float]:
    """Dice of (N, H, W) in 0..1 with bool (N, H, W), at every threshold."""
    return [dice(maps > threshold, masks) for threshold in THRESHOLDS]


@torch.no_grad()
def soft_maps(labeler: CAMPseudoLabeler, images: Tensor, batch_size: int = 16) -> Tensor:
    """Pseudo-label maps (N, H, W) of slices that all show the one class."""
    parts = [labeler(part, torch.ones(len(part), 1)) for part in images.split(batch_size)]
    return torch.cat(parts)[:, 0]


def main(
    dataset_dir: str,
    output_dir: str,
    checkpoint: str,
    csv: str | None = None,
    backbone: str = "samus_small",
    img_size: int = 128,
    num_subclasses: int = 8,
    num_folds: int = 8,
    num_test: int = 5,
    blur_kernel_size: int = 9,
    every: int = 8,
    num_tuning: int = 5,
    value: int = 1,
    **study_settings: Any,
) -> None:
    """Compare the guides.

    Args:
        dataset_dir: Decathlon folder of the run.
        output_dir: of the run.
        checkpoint: the promptable network.
        csv: file for the table.
        backbone: name of the network.
        img_size: pixels along each side of a slice.
        num_subclasses: of the run.
        num_folds: of the run.
        num_test: of the run.
        blur_kernel_size: of the run.
        every: slices are used one in so many.
        num_tuning: training cases on which settings are chosen.
        value: of the structure in the masks.
        study_settings: further settings of `SliceStudy`, for example fold or seed.
    """
    study = SliceStudy(
        dataset_dir, output_dir, {"structure": value}, img_size, num_folds, num_test=num_test, **study_settings
    )
    trained, untrained = (
        build_network(backbone, checkpoint, img_size=img_size),
        build_network(backbone, img_size=img_size),
    )
    cam = WeakMedSAMNet(build_network(backbone, img_size=img_size), 1, num_subclasses)
    load_checkpoint(cam, f"{output_dir}/models/cam.pt")
    for network in (trained, untrained, cam):
        network.eval()
    volumes = [_slices(study, item, value, every) for item in tqdm(study.split["train"], desc="slices", unit="case")]
    tuning, scored = volumes[:num_tuning], volumes[num_tuning:]
    rows = []
    for title, candidates in guides(trained, untrained).items():
        best: tuple[float, Any] = (-1.0, None)
        for (name, affinity), (beta, steps) in tqdm(
            list(product(candidates, WALKS if title != "CAM alone" else WALKS[:1])), desc=title
        ):
            walk = AffinityRandomWalk(beta=beta, num_steps=steps)
            labeler = CAMPseudoLabeler(cam, affinity, walk, blur_kernel_size=blur_kernel_size).eval()
            means = torch.tensor([volume_dice(soft_maps(labeler, images), masks) for images, masks in tuning]).mean(0)
            chosen = (float(means.max()), (name, beta, steps, int(means.argmax()), labeler))
            best = max(best, chosen, key=lambda one: one[0])
        name, beta, steps, threshold, labeler = best[1]
        found = [volume_dice(soft_maps(labeler, images), masks)[threshold] for images, masks in scored]
        rows.append(_row(title, best[0], found, name, beta, steps, THRESHOLDS[threshold]))
        print(rows[-1], flush=True)
    report(rows, csv)


def _slices(study: SliceStudy, item: dict[str, str], value: int, every: int) -> tuple[Tensor, Tensor]:
    """Slices (N, 1, H, W) that show the structure, one in so many, and its masks bool (N, H, W)."""
    case = item["case"]
    masks = study.store.geometry(case).to_network(load_case_mask(item).array, "nearest") == value
    index = masks.flatten(1).any(1).nonzero()[::every, 0].tolist()
    return torch.stack([study.store.image(case, number) for number in index]), masks[index]


def _row(title: str, tuned: float, found: Sequence[float], name: str, *walk: float) -> dict[str, Any]:
    values = torch.tensor(found)
    beta, steps, threshold = walk
    return {
        "guide": title,
        "Dice": float(values.mean()),
        "std over cases": float(values.std(correction=0)),
        "cases": len(found),
        "Dice of tuning cases": tuned,
        "asked": name,
        "beta": beta,
        "steps": steps,
        "threshold": threshold,
    }


if __name__ == "__main__":
    fire.Fire(main)
