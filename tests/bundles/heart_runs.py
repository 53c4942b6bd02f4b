"""Runs of the heart bundle's pipeline on volumes of a few voxels."""

from __future__ import annotations

from pathlib import Path

from weakmedsam_ext.bundle import training_workflow

BUNDLE = Path(__file__).parents[2] / "bundles" / "weakmedsam_msd_heart"
CONFIGS = [str(BUNDLE / "configs" / name) for name in ("pipeline.json", "demo.json")]
SMALL = {
    "img_size": 32,
    "roi_size": 32,
    "walk_size": 16,
    "num_folds": 2,
    "num_test": 2,
    "num_subclasses": 2,
    "pretrain_epochs": 2,
    "pretrain_region_workers": 1,
    "cam_epochs": 2,
    "train_epochs": 2,
    "slices_per_volume": 4,
    "volumes_per_batch": 2,
    "device": "cpu",
}


def run(dataset_dir, output_dir, **settings):
    where = {"bundle_root": str(BUNDLE), "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}
    training_workflow(BUNDLE / "configs", "pipeline.json", "demo.json", **{**where, **SMALL, **settings}).run()
