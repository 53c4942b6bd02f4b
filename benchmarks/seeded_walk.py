"""What the seeded random walk adds to class-activation maps, one setting changed at a time.

python benchmarks/seeded_walk.py --bundle_root bundles/weakmedsam_brats2019 --dataset_dir DATA --output_dir RUN \
    [--every 2] [--settings "{'num_folds': 9, 'fold': 0, 'num_test': 15}"] [--csv FILE]

RUN is an output folder of the bundle after its stage train_cam; the settings are those of the run. Every n-th training
case counts. Masks are read for this alone. Dice of the first class is that of whole volumes on the slices' grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import fire
import numpy as np
import torch
from common import dice, report
from monai.bundle import ConfigParser
from torch import Tensor
from tqdm import tqdm

from weakmedsam_ext.data import class_numbers, load_case_mask, read_grid
from weakmedsam_ext.networks import load_checkpoint
from weakmedsam_ext.transforms import SeededRandomWalk

WALKS: dict[str, dict[str, float]] = {
    "as the recipe": {},
    "seeds within 0.25 of the maximum": {"seed_margin": 0.25},
    "seeds within 1": {"seed_margin": 1.0},
    "background below -5": {"background_logit": -5.0},
    "background below -6": {"background_logit": -6.0},
    "background below -8": {"background_logit": -8.0},
    "beta 5000": {"beta": 5000.0},
    "beta 50000": {"beta": 50000.0},
}
THRESHOLDS = (0.5, 0.27, 0.12)  # logits 0, -1 and -2


def cases(bundle_root: str, settings: Mapping[str, Any], every: int) -> Iterator[tuple[Tensor, Tensor, Any, Tensor]]:
    """Soft maps (K, H, W, slices), image (1, H, W, slices), voxel size and mask (H, W, slices) of training cases."""
    parser = ConfigParser()
    parser.read_config(f"{bundle_root}/configs/pseudo_label.json")
    parser.update({"bundle_root": bundle_root, "device": torch.device("cpu"), **settings})
    study, network = parser.get_parsed_content("study"), parser.get_parsed_content("network")
    load_checkpoint(network.cam_network, parser.get_parsed_content("cam_path"))
    for item in tqdm(study.split["train"][::every], unit="case"):
        geometry, shown = study.store.geometry(item["case"]), study.slices([item["case"]], "with")
        maps = torch.zeros(geometry.num_slices, len(study.classes), geometry.img_size, geometry.img_size)
        for one in shown:
            with torch.no_grad():
                args = [torch.as_tensor(one[key]).unsqueeze(0) for key in ("image", "class_label", "valid")]
                maps[int(one["slice"])] = network(*args)[0]
        mask = class_numbers(load_case_mask(item).array, parser.get_parsed_content("class_map"))
        real = geometry.to_network(mask, "nearest").permute(1, 2, 0) == 1
        image = study.store.image(item["case"]).permute(0, 2, 3, 1)
        yield maps.permute(1, 2, 3, 0), image, geometry.spacing(read_grid(item["label"])), real


def main(
    bundle_root: str,
    dataset_dir: str,
    output_dir: str,
    every: int = 2,
    settings: dict[str, Any] | None = None,
    csv: str | None = None,
) -> None:
    """Measure.

    Args:
        bundle_root: the bundle.
        dataset_dir: its data.
        output_dir: of a run after train_cam.
        every: every n-th training case.
        settings: those of the run.
        csv: file for the table.
    """
    found: dict[str, list[float]] = {}
    where = {"dataset_dir": dataset_dir, "output_dir": output_dir}
    for scales in ([1.0, 1.4], [1.0]):
        for maps, image, spacing, real in cases(
            bundle_root, {**where, **(settings or {}), "cam_scales": scales}, every
        ):
            for threshold in THRESHOLDS:
                name = f"map cut at {threshold}"
                found.setdefault(f"{name}, scales {scales}", []).append(dice(maps[0] > threshold, real))
            for name, changed in WALKS.items() if len(scales) > 1 else [("as the recipe", {})]:
                grown = SeededRandomWalk(**changed)(maps, image, spacing)
                found.setdefault(f"walk {name}, scales {scales}", []).append(dice(grown[0] > 0.5, real))
    rows = [
        {
            "maps": name,
            "Dice": np.mean(values),
            "deviation": np.std(values),
            "median": np.median(values),
            "cases": len(values),
        }
        for name, values in found.items()
    ]
    report(rows, csv)


if __name__ == "__main__":
    fire.Fire(main)
