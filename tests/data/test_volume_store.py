from __future__ import annotations

import tracemalloc

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd, SpatialPadd

from weakmedsam_ext.data import (
    VolumeRegionDataset,
    build_volume_regions,
    build_volume_store,
    load_mask,
    write_nifti,
)

# voxels of 1 x 2 x 4 mm whose axes run to the back, the right and the head
AFFINE = np.array([[0.0, 2, 0, 5], [-1, 0, 0, 6], [0, 0, 4, -7], [0, 0, 0, 1]])
SHAPE = (48, 24, 12)


def write_case(root, name="a", affine=AFFINE):
    """A bright block on a darker one, 0..1000, and its mask."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[8:32, 6:16, 3:9] = 1
    noise = np.random.default_rng(ord(name)).normal(0, 2, SHAPE)
    image = (300 + 500.0 * mask + noise).astype(np.float32)
    image[:2], image[-2:] = 0, 1000
    write_nifti(image, affine, root / f"{name}_image.nii.gz")
    write_nifti(mask, affine, root / f"{name}_label.nii.gz")
    return {"case": name, "image": str(root / f"{name}_image.nii.gz"), "label": str(root / f"{name}_label.nii.gz")}


def test_cubic_voxels_in_ras(tmp_path):
    case = write_case(tmp_path)
    store = build_volume_store([case], tmp_path / "store", spacing=2.0, progress=False)
    volume, mask = store["a"], store.preprocessing.mask(load_mask(case["label"]))
    # right: 24 x 2 mm, front: 48 x 1 mm, head: 12 x 4 mm; the outermost centres are 46, 47 and 44 mm apart
    assert volume.shape == mask.shape == (24, 24, 23) and volume.dtype == np.float16
    assert isinstance(volume, np.memmap) and volume.min() >= 0 and volume.max() <= 1
    assert abs(mask.sum() * 8 - 24 * 10 * 6 * 8) < 0.1 * 24 * 10 * 6 * 8  # mm^3
    inside = mask.astype(bool)
    core = np.zeros_like(inside)
    core[7:15, 10:18, 8:14] = True
    assert inside[core].all() and np.abs(volume[core].astype(float) - 0.8).max() < 0.02
    # the first axis of the file runs to the back: its dark end is at the front, the last of the second axis here
    assert volume[:, -1].mean() < 0.1 and volume[:, 0].mean() > 0.8


def test_the_same_anatomy_in_other_axes_gives_the_same_volume(tmp_path):
    first = write_case(tmp_path)
    turned = nib.as_closest_canonical(nib.load(first["image"]))
    (tmp_path / "ras").mkdir()
    write_nifti(np.asarray(turned.dataobj), turned.affine, tmp_path / "ras/a.nii.gz")
    other = {"case": "b", "image": str(tmp_path / "ras/a.nii.gz")}
    store = build_volume_store([first, other], tmp_path / "store", progress=False)
    np.testing.assert_allclose(store["a"].astype(float), store["b"].astype(float), atol=2e-3)


def test_spacing_is_one_number_or_three(tmp_path):
    cases = [write_case(tmp_path)]
    # 46, 47 and 44 mm from the first centre to the last; two voxels of the file's first axis to the front
    three = build_volume_store(cases, tmp_path / "store", spacing=(4.0, 2.0, 1.0), progress=False)
    assert three["a"].shape == (12, 24, 45)
    cubes = build_volume_store(cases, tmp_path / "store", spacing=2, progress=False)
    assert cubes.keys == build_volume_store(cases, tmp_path / "store", spacing=(2, 2, 2), progress=False).keys


def test_smoothing_follows_the_axes_of_the_file(tmp_path):
    """Voxels of 1 mm along all axes: a spacing of 4 mm to the front smooths the file's axis that runs there."""
    image = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    write_nifti(image, np.eye(4), tmp_path / "ras.nii.gz")
    write_nifti(image.transpose(1, 2, 0), np.eye(4)[[2, 0, 1, 3]], tmp_path / "ars.nii.gz")
    cases = [{"case": name, "image": str(tmp_path / f"{name}.nii.gz")} for name in ("ras", "ars")]
    store = build_volume_store(cases, tmp_path / "store", spacing=(1, 4, 1), progress=False)
    assert store["ras"].shape == (16, 5, 16)
    np.testing.assert_allclose(store["ras"].astype(float), store["ars"].astype(float), atol=2e-3)


@pytest.mark.parametrize("damage", ["cut", "zeroed", "empty"])
def test_damaged_arrays_are_made_again(tmp_path, caplog, damage):
    cases = [write_case(tmp_path)]
    store = build_volume_store(cases, tmp_path / "store", progress=False)
    regions = build_volume_regions(store, tmp_path / "regions", progress=False)
    expected = [np.array(one["a"]) for one in (store, regions)]
    for one in (store, regions):
        file = one.root / f"{one.keys['a']}.npy"
        content = file.read_bytes()
        file.write_bytes({"cut": content[:-10], "zeroed": bytes(len(content)), "empty": b""}[damage])
    again = build_volume_store(cases, tmp_path / "store", progress=False)
    found = [again["a"], build_volume_regions(again, tmp_path / "regions", progress=False)["a"]]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert caplog.text.count("is made again") == 2


def test_stores_are_built_once_and_keyed_by_settings(tmp_path):
    cases = [write_case(tmp_path)]
    store = build_volume_store(cases, tmp_path / "store", progress=False)
    regions = build_volume_regions(store, tmp_path / "store", progress=False)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.npy")}
    again = build_volume_store(cases, tmp_path / "store", progress=False)
    assert build_volume_regions(again, tmp_path / "store", progress=False) == regions
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*.npy")} and len(files) == 2
    others = [
        build_volume_store(cases, tmp_path / "store", spacing=3, progress=False).keys["a"],
        build_volume_store(cases, tmp_path / "store", percentiles=(1, 99), progress=False).keys["a"],
        build_volume_regions(store, tmp_path / "store", depths=(0.1,), progress=False).keys["a"],
        build_volume_regions(store, tmp_path / "store", smoothings=(1,), progress=False).keys["a"],
    ]
    assert len({*others, store.keys["a"], regions.keys["a"]}) == 6


def test_the_block_is_a_region(tmp_path):
    case = write_case(tmp_path)
    store = build_volume_store([case], tmp_path / "store", progress=False)
    regions = build_volume_regions(store, tmp_path / "store", (0.02, 0.05, 0.1), False, (1.0, 1.5))["a"]
    assert regions.shape == (6, *store["a"].shape) and regions.dtype == np.uint16
    block = store.preprocessing.mask(load_mask(case["label"])) == 1
    found = [level == level[11, 14, 11] for level in regions]
    # partial volume at the border belongs to either
    assert max((one & block).sum() / (one | block).sum() for one in found) > 0.75


def test_items_for_monai_transforms(tmp_path):
    store = build_volume_store([write_case(tmp_path, name) for name in "ab"], tmp_path / "store", progress=False)
    regions = build_volume_regions(store, tmp_path / "store", progress=False)
    item = VolumeRegionDataset(store, regions)[1]
    assert item["case"] == "b" and item["image"].dtype == torch.float32 and item["label"].dtype == torch.int32
    np.testing.assert_array_equal(item["image"][0].numpy(), store["b"].astype(np.float32))
    np.testing.assert_array_equal(item["label"].numpy(), regions["b"])
    transform = Compose(
        [
            SpatialPadd("image", (24, 24, 32)),
            SpatialPadd("label", (24, 24, 32), value=-1),
            RandSpatialCropd(["image", "label"], (16, 16, 32), random_size=False),
        ]
    ).set_random_state(0)
    patch = VolumeRegionDataset(store, regions, [{"case": "a"}], transform)[0]
    assert patch["image"].shape == (1, 16, 16, 32) and patch["label"].shape == (6, 16, 16, 32)
    outside = (patch["label"] == -1).all(0)
    assert outside.sum() == 16 * 16 * 9 and (patch["image"][0][outside] == 0).all()


def test_memory_does_not_grow_with_the_number_of_cases(tmp_path):
    cases = [write_case(tmp_path, name) for name in "abcdef"]

    def peak(number):
        tracemalloc.start()
        store = build_volume_store(cases[:number], tmp_path / f"store{number}", progress=False)
        build_volume_regions(store, tmp_path / f"store{number}", progress=False)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(1)  # first use of a library allocates
    assert peak(6) < 1.3 * peak(2)


def test_wrong_input_is_refused(tmp_path):
    case = write_case(tmp_path)
    with pytest.raises(ValueError, match="spacing: expected one or three positive numbers of mm, but got 0"):
        build_volume_store([case], tmp_path / "store", spacing=0)
    with pytest.raises(ValueError, match=r"expected one or three positive numbers of mm, but got \(1, 2\)"):
        build_volume_store([case], tmp_path / "store", spacing=(1, 2))
    with pytest.raises(ValueError, match="percentiles: expected 0 <= lower < upper <= 100"):
        build_volume_store([case], tmp_path / "store", percentiles=(99, 1))
    with pytest.raises(ValueError, match="cases: expected at least one, each once, but got 0 items"):
        build_volume_store([], tmp_path / "store")
    write_nifti(np.ones(SHAPE, np.float32), AFFINE, tmp_path / "flat.nii.gz")
    with pytest.raises(ValueError, match="flat.nii.gz: all voxels have the value 1; export the volume again"):
        build_volume_store([{"case": "f", "image": str(tmp_path / "flat.nii.gz")}], tmp_path / "store", progress=False)
    store = build_volume_store([case], tmp_path / "store", progress=False)
    with pytest.raises(KeyError, match="case 'b' is not in the volume store"):
        store["b"]
    with pytest.raises(ValueError, match=r"expected ascending positive depths .* but got depths=\(0.2, 0.1\)"):
        build_volume_regions(store, tmp_path / "store", (0.2, 0.1), progress=False)
    regions = build_volume_regions(store, tmp_path / "store", progress=False)
    with pytest.raises(ValueError, match=r"cases: expected at least one, all in both stores, but \['b'\] are not"):
        VolumeRegionDataset(store, regions, ["b"])
