"""The same volume stored in several array orders."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from weakmedsam_ext.data import write_nifti

SHAPE = (18, 14, 9)
SPACING = (0.8, 1.25, 3.0)  # to the right, the front and the head in mm
AFFINE = np.array([[0.8, 0, 0, -7], [0, 1.25, 0, 3], [0, 0, 3.0, 11], [0, 0, 0, 1]])
CODES = ("RAS", "LPS", "PIR", "SLA")


def reorder(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Array and affine in other axis codes; no voxel changes."""
    image = nib.Nifti1Image(array, affine)
    transform = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes)))
    turned = image.as_reoriented(transform)
    return np.asarray(turned.dataobj), turned.affine


def write_orientations(root: Path, image: np.ndarray, mask: np.ndarray) -> list[dict[str, str]]:
    """One case for each of `CODES`, all of the same volume and mask, which are given in RAS order."""
    cases = []
    for codes in CODES:
        item = {"case": codes}
        for key, array in (("image", image), ("label", mask)):
            item[key] = str(root / f"{codes}_{key}.nii.gz")
            write_nifti(*reorder(array, AFFINE, codes), item[key])
        cases.append(item)
    return cases


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """An image with dark margins and a mask, both without any symmetry."""
    image = np.random.default_rng(0).uniform(50, 100, SHAPE).astype(np.float32)
    image[:2], image[:, :1], image[:, -3:], image[..., :1] = 0, 0, 0, 0
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 2:7, 5:8] = 1
    mask[10:12, 8:9, 2:4] = 2
    return image, mask
