"""A small data set in Decathlon layout, with a target on some slices."""

import json
from pathlib import Path

import numpy as np

from weakmedsam_ext.data import write_nifti

AFFINE = np.array([[-0.8, 0.1, 0, 5], [0.1, -0.8, 0, 6], [0, 0, 2.5, -7], [0, 0, 0, 1]])
SHAPE = (20, 14, 6)
POSITIVE = slice(2, 5)  # slices that show the target
NAMES = ("la_007", "la_003", "la_009")


def write_tiny_dataset(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for name in NAMES:
        mask = np.zeros(SHAPE, np.uint8)
        mask[5:9, 4:8, POSITIVE] = 1
        write_nifti(generator.uniform(0, 100, SHAPE).astype(np.float32), AFFINE, root / f"imagesTr/{name}.nii.gz")
        write_nifti(mask, AFFINE, root / f"labelsTr/{name}.nii.gz")
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES]
    listing = {"name": "LeftAtrium", "training": training, "test": ["./imagesTs/la_001.nii.gz"]}
    (root / "dataset.json").write_text(json.dumps(listing))
    return root
