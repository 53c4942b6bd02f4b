"""Are a generalist's pseudo-masks better than the specialist that asks for them? Scored with masks, after training.

python benchmarks/semisam_pseudo_masks.py --output_dir runs/semisam --runs "['2_supervised']" --generalist model.pt

Takes trained specialists of semisam_la2018.py (one for each seed) and the unlabelled training cases, in their middle
patch. The generalist is asked as in training, by the specialist's prediction, and by the true mask: that is the best
that any prompt of this kind could do. Dice is the mean over cases; "worse" counts patches on which the answer has a
lower Dice than the prediction that asked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from common import dice, report
from monai.transforms import CenterSpatialCrop, Compose, ScaleIntensityRangePercentiles, SpatialPad
from monai.utils import ensure_tuple
from semisam_la2018 import OWN, REDUCED
from torch import Tensor

from weakmedsam_ext.data import load_mask, load_volume, semi_supervised_items
from weakmedsam_ext.data.datasets.decathlon import image_path, label_path
from weakmedsam_ext.data.io import read_json
from weakmedsam_ext.engines import build_generalist
from weakmedsam_ext.networks import ThinVNet, load_checkpoint

ASKED = (("point", 1), ("point", 3), ("point", 10), ("mask", 1), ("uncertainty", 3))


def patches(data: Path, cases: Sequence[str], labelled: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Image (1, 1, D, H, W) and mask, bool of the same shape, of the unlabelled cases of a run."""
    items = [
        {"case": case, "image": str(image_path(data, case)), "label": str(label_path(data, case))} for case in cases
    ]
    as_in_training = ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True)
    middle = Compose([SpatialPad(REDUCED["roi_size"]), CenterSpatialCrop(REDUCED["roi_size"])])
    for item in semi_supervised_items(items, labelled, seed=seed):
        if "label" not in item:
            arrays = load_volume(item["image"]).array, load_mask(label_path(data, item["case"])).array
            image, mask = (torch.from_numpy(np.asarray(one, np.float32))[None] for one in arrays)
            yield middle(as_in_training(image))[None], middle(mask)[None] > 0


@torch.no_grad()
def main(
    output_dir: str,
    runs: Sequence[str],
    generalist: str,
    csv: str | None = None,
    spacing: float = 2.0,
    channels: int = REDUCED["channels"],
    seeds: Sequence[int] = (0, 1, 2),
    num_test: int = 8,
) -> None:
    """Compare specialist and generalist.

    Args:
        output_dir: of semisam_la2018.py.
        runs: folders of methods in it, for example 2_supervised.
        generalist: checkpoint of the bundle promptable_pretrain_3d as it is by default.
        csv: file for the table.
        spacing: of the runs.
        channels: of the runs.
        seeds: of the runs.
        num_test: of the runs.
    """
    root = Path(output_dir)
    cases = read_json(root / f"split_{num_test}.json", "run semisam_la2018.py first")["train"]
    asked = {
        f"{prompt}, {clicks} clicks" if prompt != "mask" else "mask": build_generalist(
            [{**OWN, "checkpoint": generalist}], prompt=prompt, num_clicks=clicks
        )
        for prompt, clicks in ASKED
    }
    rows = []
    for run in ensure_tuple(runs):
        own: list[float] = []
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in asked}
        for seed in ensure_tuple(seeds):
            specialist = ThinVNet(channels=channels)
            load_checkpoint(specialist, root / run / f"seed{seed}" / "models" / "model.pt")
            specialist.eval()
            for image, mask in patches(root / f"data_{spacing}mm", cases, int(run.split("_")[0]), seed):
                logits = specialist(image)
                own.append(dice(logits.argmax(1, keepdim=True) == 1, mask))
                sure = torch.where(mask, 10.0, -10.0)
                for name, network in asked.items():
                    answers = (network(image, one) for one in (logits, torch.cat([-sure, sure], dim=1)))
                    found[name].append(tuple(dice((a.probability > 0.5) & (a.weight > 0), mask) for a in answers))
        rows += _rows(run, own, found)
    report(rows, csv)


def _rows(run: str, own: Sequence[float], found: dict[str, list[tuple[float, float]]]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"specialist": run, "asked by": "", "Dice": np.mean(own), "asked by true mask": "", "worse": ""}
    ]
    for name, pairs in found.items():
        theirs, best = np.array(pairs).T
        worse = f"{(theirs < np.array(own)).sum()} of {len(own)}"
        row = {"specialist": run, "asked by": name, "Dice": theirs.mean()}
        rows.append({**row, "asked by true mask": best.mean(), "worse": worse})
    return rows


if __name__ == "__main__":
    fire.Fire(main)
