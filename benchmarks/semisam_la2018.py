"""SemiSAM on the left atrium at reduced size: every method with and without a generalist, over seeds.

python benchmarks/semisam_la2018.py --dataset_dir LA2018 --output_dir runs/semisam --generalist model.pt [--csv FILE]

Volumes are resampled once; masks of the copies are read for the labelled cases and for scoring only. The split is the
same for every run; the seed draws the labelled cases, the initial weights and the order. Each run is a pipeline of the
bundle `semisam_la2018`, so that a killed benchmark goes on where it was cut. `--jobs` of them run side by side: one
small network keeps neither a GPU nor many cores busy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fire
import numpy as np
import torch
from common import report
from monai.utils import ensure_tuple
from tqdm import tqdm

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.data import decathlon_cases, load_mask, load_volume, split_dataset, write_nifti
from weakmedsam_ext.data.datasets.decathlon import image_path, label_path, write_dataset_json
from weakmedsam_ext.data.io import read_json, write_json
from weakmedsam_ext.data.volume_store import VolumePreprocessing

METHODS = ("supervised", "mean_teacher", "uncertainty_aware", "adversarial", "copy_paste", "unimatch")
BUNDLE = Path(__file__).parents[1] / "bundles" / "semisam_la2018"
# what differs from the bundle: a patch holds the resampled volumes
REDUCED = {
    "roi_size": [64, 48, 32],
    "stride": [32, 24, 16],
    "batches_per_epoch": 50,
    "train_epochs": 8,
    # the published weight of 0.05 does next to nothing beside a Dice loss
    "generalist_weight": 10.0,
    "prompt": "uncertainty",
    "num_clicks": 3,
    "val_interval": 100,
    "device": "cpu",
}
# a network of promptable_pretrain_3d, but for its checkpoint
OWN = {"name": "sam_med3d_small", "img_size": 32, "normalization": "none"}


def resample(dataset_dir: str, output: Path, spacing: float) -> Path:
    """Copy a Decathlon folder to cubic voxels, intensities to 0..1."""
    preprocessing = VolumePreprocessing(spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    cases = decathlon_cases(dataset_dir)
    for item in tqdm(cases, desc=f"resample to {spacing} mm", unit="case"):
        if not image_path(output, item["case"]).exists():
            mask = preprocessing.mask(load_mask(item["label"])).astype(np.uint8)
            write_nifti(mask, affine, label_path(output, item["case"]))
            write_nifti(preprocessing(load_volume(item["image"])), affine, image_path(output, item["case"]))
    if not (output / "dataset.json").exists():
        write_dataset_json(output, "resampled", "", ("background", "left atrium"), {i["case"]: None for i in cases})
    return output


def prepared(
    dataset_dir: str, root: Path, spacing: float, settings: dict[str, Any], num_test: int = 8
) -> tuple[Path, dict[str, Any]]:
    """The resampled data, and what all runs have in common."""
    data = resample(dataset_dir, root / f"data_{spacing}mm", spacing)
    split_file = root / f"split_{num_test}.json"
    if not split_file.exists():
        split = split_dataset(dataset_dir, num_folds=20, num_test=num_test)
        write_json({part: [item["case"] for item in items] for part, items in split.items()}, split_file)
    return data, {**REDUCED, "spacing": spacing, "split_file": str(split_file), **settings}


def run(dataset_dir: Path, output_dir: Path, **settings: Any) -> dict[str, Any]:
    """Train, predict and score; returns the scores of the volume protocol."""
    if not (output_dir / "metrics.json").exists():
        where = {"bundle_root": str(BUNDLE), "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}
        training_workflow(BUNDLE / "configs", "pipeline.json", **{**where, **settings}).run()
    (scores,) = read_json(output_dir / "metrics.json", "delete it")["summary"]["volume"].values()
    return scores


def run_all(
    todo: Sequence[tuple[Any, dict[str, Any]]], jobs: int, function: Callable[..., dict[str, Any]] = run
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Call a function with the arguments of every (key, arguments), `jobs` at a time; gives (key, result)."""
    if jobs == 1:
        yield from ((key, function(**arguments)) for key, arguments in todo)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(function, **arguments): key for key, arguments in todo}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs is finished, what waits is not begun
            raise


def main(
    dataset_dir: str,
    output_dir: str,
    generalist: str | None = None,
    csv: str | None = None,
    spacing: float = 2.0,
    labelled: Sequence[int] = (2, 4),
    seeds: int = 3,
    methods: Sequence[str] = METHODS,
    num_test: int = 8,
    upper_bound: bool = True,
    without: bool = True,
    jobs: int = 1,
    **settings: Any,
) -> None:
    """Compare the methods.

    Args:
        dataset_dir: the left atrium challenge as `prepare la2018` writes it.
        output_dir: of all runs.
        generalist: checkpoint of the bundle promptable_pretrain_3d as it is by default; none for runs without only.
        csv: file for the table.
        spacing: side of a voxel in mm.
        labelled: numbers of labelled cases.
        seeds: number of seeds.
        methods: of the bundle's setting "method".
        num_test: held-out cases.
        upper_bound: also train on all masks of the training cases.
        without: also train every method without the generalist.
        jobs: runs at a time, each with one thread; 1 runs one after the other with all threads.
        settings: of pipeline.json, in place of the reduced ones.
    """
    data, common = prepared(dataset_dir, Path(output_dir), spacing, settings, num_test)
    runs = [
        {"method": method, "labelled": count, "generalists": used}
        for count in ensure_tuple(labelled)
        for method in ensure_tuple(methods)
        for used in [[]] * without + [[{**OWN, "checkpoint": generalist}]] * bool(generalist)
    ]
    if upper_bound:
        runs.append({"method": "supervised", "labelled": None, "generalists": []})
    todo = []
    for seed in range(seeds):
        for chosen in runs:
            title = f"{chosen['labelled'] or 'all'} {chosen['method']}{'+generalist' if chosen['generalists'] else ''}"
            folder = Path(output_dir) / title.replace(" ", "_") / f"seed{seed}"
            todo.append(((title, seed), {"dataset_dir": data, "output_dir": folder, **common, **chosen, "seed": seed}))
    found: dict[str, dict[int, dict[str, Any]]] = {title: {} for (title, _), _ in todo}
    for (title, seed), scores in run_all(todo, jobs):
        found[title][seed] = scores
        print(json.dumps({"run": title, "seed": seed, "Dice": scores["dice"]["mean"]}), flush=True)
    report([_row(title, list(scores.values())) for title, scores in found.items()], csv)


def _row(title: str, scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labelled, method = title.split(" ")
    row: dict[str, Any] = {"labelled": labelled, "method": method, "seeds": len(scores)}
    for name, metric in (("Dice", "dice"), ("ASSD mm", "assd_mm")):
        # a case of which nothing is found has no distance
        means = [float("nan") if one[metric]["mean"] is None else one[metric]["mean"] for one in scores]
        row |= {name: float(np.nanmean(means)), f"{name} std": float(np.nanstd(means))}
    return row | {"cases missed": sum(one["dice"]["n_missed"] for one in scores)}


if __name__ == "__main__":
    fire.Fire(main)
