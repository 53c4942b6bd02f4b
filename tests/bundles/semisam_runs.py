"""Runs of the semi-supervised bundles on volumes of a few voxels."""

from __future__ import annotations

import json
from pathlib import Path

from weakmedsam_ext.bundle import training_workflow

ROOT = Path(__file__).parents[2] / "bundles"
METHODS = ("supervised", "mean_teacher", "uncertainty_aware", "adversarial", "copy_paste", "unimatch")
BUNDLES = ("semisam_la2018", "semisam_brats2019")
SMALL = {
    "class_map": {"left atrium": 1},
    "num_folds": 3,
    "num_test": 2,
    "labelled": ["heart_004", "heart_006"],
    "spacing": 2.5,
    "roi_size": [32, 32, 16],
    "stride": [16, 16, 16],
    "channels": 2,
    "labelled_per_batch": 1,
    "unlabelled_per_batch": 1,
    "batches_per_epoch": 3,
    "val_interval": 1,
    "device": "cpu",
}
# random weights will do: what it says is not looked at
GENERALIST = {"name": "sam_med3d_tiny", "img_size": 32, "checkpoint": None, "normalization": "none"}


def workflow(bundle, config, dataset_dir, output_dir, method=None, **settings):
    """A config of a bundle, with the overlays of a method and of generalists, ready to run."""
    root = ROOT / bundle
    files = [config]
    if config == "train.json":
        files += [f"{method}.json"] * bool(method) + ["generalist.json"] * bool(settings.get("generalists"))
    elif method:
        settings["method"] = method
    declared = {key for file in files for key in json.loads((root / "configs" / file).read_text())}
    small = {key: value for key, value in SMALL.items() if key in declared}
    where = {"bundle_root": str(root), "dataset_dir": str(dataset_dir), "output_dir": str(output_dir)}
    return training_workflow(root / "configs", *files, **{**where, **small, **settings})


def run(bundle, dataset_dir, output_dir, **settings):
    """The whole pipeline, two epochs unless given."""
    workflow(bundle, "pipeline.json", dataset_dir, output_dir, **{"train_epochs": 2, **settings}).run()
