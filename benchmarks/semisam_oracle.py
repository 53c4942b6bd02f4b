"""ORACLE, not a method: how good a generalist, or its prompts, would have to be for SemiSAM to gain from it.

python benchmarks/semisam_oracle.py --dataset_dir LA2018 --output_dir runs/semisam [--generalist model.pt] [--csv FILE]

Here, and nowhere else, the masks of unlabelled cases are read in training: as pseudo-masks of a perfect generalist,
moved by some voxels to make it worse, or as the prediction that a real generalist is prompted with. Everything else is
the reduced protocol of semisam_la2018.py, whose output_dir may be shared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import fire
import numpy as np
import torch
from common import report
from monai.engines import default_prepare_batch
from monai.utils import ensure_tuple
from semisam_la2018 import BUNDLE, OWN, prepared, run, run_all
from torch import Tensor, nn

from weakmedsam_ext.data.io import read_json, write_json
from weakmedsam_ext.engines import PseudoMask, build_generalist


class Oracle(nn.Module):
    """In place of a `PromptedGeneralist`: knows the masks of unlabelled patches, which the loader brings as "truth".

    Args:
        shift: voxels by which masks are moved along a random axis, forth or back.
        networks: a real generalist to be prompted with the true mask, see `build_generalist`; none to say it outright.
    """

    dice: ClassVar[list[float]] = []  # of the latest one's pseudo-masks, for whoever has run the pipeline

    def __init__(self, shift: int = 0, networks: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__()
        self.shift = shift
        self.inner = build_generalist(networks, num_clicks=3)
        self.dice.clear()

    def prepare_batch(self, batch: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Keep the truth of the unlabelled items, then do what MONAI does."""
        self.truth = batch["truth"].as_tensor()[len(batch["label"]) :] > 0
        return default_prepare_batch(batch, *args, **kwargs)

    def forward(self, image: Tensor, logits: Tensor) -> PseudoMask:
        """Answer as a `PromptedGeneralist` does."""
        moved = self.truth = self.truth.to(image.device)
        if self.shift:
            axis, sign = int(torch.randint(2, 5, ())), int(torch.randint(2, ())) * 2 - 1
            moved = moved.roll(sign * self.shift, axis)
        if self.inner is None:
            answer = PseudoMask(moved.float(), image.new_ones(len(image), 1, 1, 1, 1))
        else:
            sure = torch.where(moved, 10.0, -10.0)
            answer = self.inner(image, torch.cat([-sure, sure], dim=1))
        said = (answer.probability > 0.5) & (answer.weight > 0)
        both, total = (said & self.truth).sum(), said.sum() + self.truth.sum()
        if self.truth.any():
            self.dice.append(float(2 * both / total))
        return answer


def with_oracle(folder: Path, shift: int, networks: Sequence[dict[str, Any]]) -> Path:
    """Configs of the bundle in which an oracle is the generalist, and the masks of all cases are loaded as "truth"."""
    shutil.copytree(BUNDLE / "configs", folder, dirs_exist_ok=True)
    overlay = {
        "generalist": {"_target_": "semisam_oracle.Oracle", "shift": shift, "networks": list(networks)},
        "keys": ["image", "label", "truth"],
        "train_data": "$[{**item, 'truth': item['image'].replace('imagesTr', 'labelsTr')} for item in @items]",
    }
    generalist = read_json(folder / "generalist.json", "restore the bundle")
    generalist["+train#trainer"]["prepare_batch"] = "$@generalist.prepare_batch"
    write_json({**generalist, **overlay}, folder / "generalist.json")
    return folder


def main(
    dataset_dir: str,
    output_dir: str,
    generalist: str | None = None,
    csv: str | None = None,
    spacing: float = 2.0,
    labelled: int = 2,
    shifts: Sequence[int] = (0, 2, 4),
    weights: Sequence[float] = (0.05, 10.0),
    seeds: int = 3,
    method: str = "supervised",
    jobs: int = 1,
    **settings: Any,
) -> None:
    """Compare oracles.

    Args:
        dataset_dir: see semisam_la2018.py.
        output_dir: see semisam_la2018.py.
        generalist: checkpoint to be prompted with true masks; left out without.
        csv: file for the table.
        spacing: side of a voxel in mm.
        labelled: number of labelled cases.
        shifts: voxels by which the perfect generalist's masks are moved.
        weights: of the generalist's loss; published is 0.05.
        seeds: number of seeds.
        method: of the bundle's setting "method".
        jobs: see semisam_la2018.py.
        settings: of pipeline.json, in place of the reduced ones.
    """
    root = Path(output_dir)
    data, common = prepared(dataset_dir, root, spacing, settings)
    oracles = [(f"true mask moved by {shift}", shift, []) for shift in ensure_tuple(shifts)]
    oracles += [("generalist prompted with true mask", 0, [{**OWN, "checkpoint": generalist}])] if generalist else []
    todo = []
    for weight in ensure_tuple(weights):
        for title, shift, networks in oracles:
            for seed in range(seeds):
                chosen = {"method": method, "labelled": labelled, "generalist_weight": weight, "seed": seed}
                folder = root / f"oracle_{title.replace(' ', '_')}_{weight}" / f"seed{seed}"
                settings = {"dataset_dir": data, "output_dir": folder, **common, **chosen}
                todo.append(((title, weight), {"oracle": (shift, networks), **settings}))
    found: dict[tuple[str, float], list[dict[str, float]]] = {key: [] for key, _ in todo}
    for key, scores in run_all(todo, jobs, run_with_oracle):
        found[key].append(scores)
        print(json.dumps({"oracle": key[0], "weight": key[1], **scores}), flush=True)
    report([_row(title, weight, scores) for (title, weight), scores in found.items()], csv)


def run_with_oracle(oracle: tuple[int, Sequence[dict]], output_dir: Path, **settings: Any) -> dict:
    """Train with an oracle in place of the generalist; returns its Dice and that of the specialist."""
    from semisam_oracle import Oracle  # as the config imports it, which is not the class of a script

    said = output_dir / "oracle.json"
    if not said.exists():
        configs = with_oracle(output_dir / "configs", *oracle)
        run(output_dir=output_dir, **settings, **{"generalists": ["oracle"], "pipeline::config_dir": str(configs)})
        write_json({"Dice of pseudo-masks": float(np.mean(Oracle.dice or [np.nan]))}, said)
    return {**read_json(said, "delete it"), "Dice": run(output_dir=output_dir, **settings)["dice"]["mean"]}


def _row(title: str, weight: float, scores: Sequence[dict[str, float]]) -> dict[str, Any]:
    dice = [one["Dice"] for one in scores]
    said = float(np.mean([one["Dice of pseudo-masks"] for one in scores]))
    row = {"ORACLE": title, "weight": weight, "seeds": len(scores), "Dice of pseudo-masks": said}
    return {**row, "Dice": float(np.mean(dice)), "Dice std": float(np.std(dice))}


if __name__ == "__main__":
    fire.Fire(main)
