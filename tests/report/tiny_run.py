"""A finished run of a few voxels, of which every number of the report is known."""

from __future__ import annotations

import numpy as np

from weakmedsam_ext.data import write_json, write_nifti
from weakmedsam_ext.metrics import evaluate_predictions
from weakmedsam_ext.metrics.evaluation import write_csv

CLASS_MAP = {"lesion": [1, 2]}
SHAPE = (12, 10, 6)
SPACING = np.diag([2.0, 1.0, 3.0, 1.0])
# slices that the reference shows, slices that the prediction marks; a lesion is 4 x 5 voxels in each
CASES = {"good": ({1, 2, 3}, {1, 2, 3}), "fair": ({1, 2, 3}, {2, 3, 4}), "bad": ({0, 1, 2}, {5})}
DICE = {"good": 1.0, "fair": 2 / 3, "bad": 0.0}


def mask(slices, value=1):
    volume = np.zeros(SHAPE, np.uint8)
    volume[3:7, 2:7, sorted(slices)] = value
    return volume


def make_run(folder):
    """Write data and run.

    Returns:
        steps and held-out cases, as a recipe gives them to the report.
    """
    data, run = folder / "data", folder / "run"
    cases = []
    for number, (name, (real, answer)) in enumerate(CASES.items()):
        image = np.random.default_rng(number).normal(100, 10, SHAPE).astype(np.float32) + 50 * mask(real)
        for where, array in (("images", image), ("labels", mask(real, 2))):
            write_nifti(array, SPACING, data / where / f"{name}.nii.gz")
        write_nifti(mask(answer), SPACING, run / "predictions" / f"{name}.nii.gz")
        write_nifti(mask(real), SPACING, run / "pseudo_labels" / f"{name}.nii.gz")
        paths = {key: str(data / where / f"{name}.nii.gz") for key, where in (("image", "images"), ("label", "labels"))}
        cases.append({"case": name, **paths})
    training = [{**case, "case": case["case"], "image": case["image"]} for case in cases]
    evaluate_predictions(cases, run / "predictions", CLASS_MAP, run, progress=False)
    evaluate_predictions(training, run / "pseudo_labels", CLASS_MAP, run / "evaluation" / "labels", progress=False)
    rows = [{"epoch": n, "loss": 1 / n, "seconds": 1.0, "val_mean_dice": 0.1 * n if n % 2 else None} for n in (1, 2, 3)]
    write_csv(rows, run / "logs" / "train.csv")
    write_json({"dataset_dir": str(data), "class_map": CLASS_MAP, "epochs": 3}, run / "stages" / "settings.json")
    write_json({}, run / "stages" / "hashes.json")
    usage = {"started": "2026-01-01T00:00:00+00:00", "seconds": 200.0, "memory_mb": 1500, "versions": {"torch": "9.9"}}
    later = {**usage, "started": "2026-01-01T01:00:00+00:00", "seconds": 100.0, "resumed": True}
    write_json({"finished": True, "bundle": "Tiny <run>", "usage": later}, run / "stages" / "predict.json")
    write_json({"finished": True, "bundle": "Tiny <run>", "usage": usage}, run / "stages" / "train.json")
    steps = {
        "labels (copies)": {
            "about": "what a person drew",
            "cases": training,
            "masks": str(run / "pseudo_labels"),
            "scores": str(run / "evaluation" / "labels"),
        },
        "network (held-out cases)": {
            "about": "what was trained",
            "cases": cases,
            "masks": str(run / "predictions"),
            "scores": str(run),
        },
    }
    return steps, cases
