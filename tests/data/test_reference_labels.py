"""Reference masks for the supervised upper bound."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.data import write_nifti, write_reference_labels


def test_values_become_class_numbers(tmp_path):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    raw = np.array([0, 1, 2, 4, 7, 1], dtype=np.uint8).reshape(1, 2, 3)
    for folder in ("images", "masks"):
        write_nifti(raw, affine, tmp_path / folder / "a.nii.gz")
    case = {"case": "a", "image": str(tmp_path / "images/a.nii.gz"), "label": str(tmp_path / "masks/a.nii.gz")}
    write_reference_labels([case], {"core": [1, 4], "oedema": 2}, tmp_path / "out", progress=False)
    written = nib.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj).ravel(), [0, 1, 2, 1, 0, 1])
    np.testing.assert_allclose(written.affine, affine)


def test_a_case_without_a_mask_is_named(tmp_path):
    with pytest.raises(ValueError, match="case 'a' has no mask; a supervised upper bound needs one for every case"):
        write_reference_labels([{"case": "a", "image": "a.nii.gz"}], {"x": 1}, tmp_path, progress=False)
