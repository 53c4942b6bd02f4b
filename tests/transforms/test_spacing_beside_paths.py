from __future__ import annotations

import nibabel as nib
import numpy as np
import torch
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, Spacingd

from weakmedsam_ext.transforms import SpacingBesidePathsd


def test_gives_and_inverts_what_monai_does_beside_a_path(tmp_path):
    path = str(tmp_path / "image.nii.gz")
    voxels = np.random.default_rng(0).random((8, 9, 5), dtype=np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 3.0, 1.0])), path)
    load = [LoadImaged("image"), EnsureChannelFirstd("image")]
    ours, theirs = (Compose([*load, spacing("image", (1.5, 1.5, 2.0))]) for spacing in (SpacingBesidePathsd, Spacingd))
    item = ours({"image": path, "image_path": path, "image_id": "case"})
    torch.testing.assert_close(item["image"], theirs({"image": path})["image"], rtol=0, atol=0)
    assert item["image_path"] == path and item["image_id"] == "case" and item["image"].shape != (1, 8, 9, 5)
    item["pred"] = item["image"]
    back = Invertd("pred", transform=ours, orig_keys="image")(item)["pred"]
    assert back.shape == (1, 8, 9, 5)
