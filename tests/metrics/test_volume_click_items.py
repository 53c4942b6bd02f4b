from __future__ import annotations

import numpy as np
import pytest
import torch

from weakmedsam_ext.data import build_volume_regions, build_volume_store, write_nifti
from weakmedsam_ext.metrics import VolumeClickItems, best_superpixel_levels, evaluate_superpixels


@pytest.fixture
def study(tmp_path):
    """A volume of 30 x 20 x 12 voxels of 2 mm, axes in RAS, with two blocks of brightness 1 and 2."""
    mask = np.zeros((30, 20, 12), np.uint8)
    mask[2:8, 2:8, 2:10] = 1
    mask[20:28, 10:18, 2:10] = 2
    noise = np.random.default_rng(0).normal(0, 0.005, mask.shape)
    for kind, array in (("image", (mask + noise).astype(np.float32)), ("label", mask)):
        write_nifti(array, np.diag([2.0, 2, 2, 1]), tmp_path / f"a_{kind}.nii.gz")
    cases = [{"case": "a", **{kind: str(tmp_path / f"a_{kind}.nii.gz") for kind in ("image", "label")}}]
    volumes = build_volume_store(cases, tmp_path / "store", progress=False)
    return cases, volumes, build_volume_regions(volumes, tmp_path / "store", (0.02, 0.05), progress=False)


def test_patches_by_hand(study):
    cases, volumes, regions = study
    first, second = VolumeClickItems(volumes, cases, {"one": 1, "two": 2}, 16, regions)
    assert (first["classes"], second["classes"]) == (["one"], ["two"])
    assert first["image"].shape == first["structures"].shape == (1, 16, 16, 16)
    assert first["structures"].sum() == 6 * 6 * 8 and second["structures"].sum() == 8 * 8 * 8
    # the first block begins 2 voxels from the border, where the patch begins; 12 voxels are padded by 2 on each side
    expected = torch.zeros(16, 16, 16, dtype=torch.bool)
    expected[2:8, 2:8, 4:12] = True
    assert torch.equal(first["structures"][0], expected)
    assert torch.equal(first["image"][0] > 0.25, expected)
    # the second box has its centre at 24 of 30 and 14 of 20: the patch ends with the volume
    assert second["structures"][0].nonzero()[0].tolist() == [20 - 14, 10 - 4, 4]
    padding = (first["regions"] == -1).all(0)
    assert padding.sum() == 16 * 16 * 4 and (first["image"][0][padding] == 0).all()


def test_superpixels_find_the_blocks(study):
    cases, volumes, regions = study
    items = list(VolumeClickItems(volumes, cases, {"one": 1, "two": 2}, 16, regions, min_size=1))
    run = evaluate_superpixels(items, best_superpixel_levels(items, (1,), progress=False), progress=False)
    assert [row["class"] for row in run.rows] == ["one", "two"]
    # watersheds cut the edges of blocks of a few voxels: 224 of 288 and 432 of 512 are left
    assert [row["iou_1"] for row in run.rows] == pytest.approx([224 / 288, 432 / 512], abs=1e-6)


def test_small_structures_are_left_out_and_masks_are_needed(study):
    cases, volumes, _ = study
    assert len(list(VolumeClickItems(volumes, cases, {"one": 1, "two": 2}, 16, min_size=300))) == 1
    with pytest.raises(ValueError, match="cases: 'a' has no mask to score against; leave it out"):
        VolumeClickItems(volumes, [{"case": "a", "image": "x"}], {"one": 1}, 16)
