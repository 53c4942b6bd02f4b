"""Runs of the promptable bundles' pipelines on volumes of a few voxels."""

from __future__ import annotations

import json
from pathlib import Path

from weakmedsam_ext.bundle import training_workflow

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL = {
    "promptable_pretrain_2d": {"img_size": 32, "slices_per_case": 2, "region_workers": 1},
    "promptable_pretrain_3d": {"img_size": 32, "spacing": 2.5, "samples_per_volume": 2},
}
COMMON = {
    "num_folds": 2,
    "num_test": 1,
    "train_epochs": 2,
    "finetune_epochs": 1,
    "batch_size": 4,
    "min_size": 8,
    "device": "cpu",
}


def workflow(name, dataset_dir, output_dir, *files, **settings):
    """A config of a bundle and its overlays, ready to run."""
    configs = BUNDLES / name / "configs"
    declared = {key for file in files for key in json.loads((configs / file).read_text())}
    small = {**COMMON, "num_clicks": 2, "num_rounds": 2, **SMALL[name]}
    small = {key: value for key, value in small.items() if key in declared}
    where = {"bundle_root": str(BUNDLES / name), "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}
    return training_workflow(configs, *files, **{**where, **small, **settings})


def run(name, dataset_dir, output_dir, **settings):
    """The whole pipeline."""
    workflow(name, dataset_dir, output_dir, "pipeline.json", **settings).run()
