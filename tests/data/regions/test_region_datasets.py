from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from orientations import CODES, phantom, write_orientations

from weakmedsam_ext.data import (
    SliceMasks,
    SliceRegions,
    VolumeMasks,
    VolumeRegions,
    build_slice_store,
    write_nifti,
)


@pytest.fixture
def data(tmp_path):
    """Two volumes of 2 mm voxels; the masks hold 1 in slice 2, 5 in slices 3 and 4, and 9 elsewhere."""
    items = []
    for number in range(2):
        image = np.random.default_rng(number).random((16, 16, 6), dtype=np.float32) + 1
        mask = np.full(image.shape, 9, dtype=np.uint8)
        mask[4:8, 4:8, 2] = 1
        mask[8:12, 4:8, 3:5] = 5
        paths = {key: str(tmp_path / f"{key}_{number}.nii.gz") for key in ("image", "label")}
        for key, array in (("image", image), ("label", mask)):
            write_nifti(array, np.diag([2.0, 2.0, 2.0, 1.0]), paths[key])
        items.append(paths)
    return items


def test_slices_that_show_a_structure(data, tmp_path):
    masks = SliceMasks(data, tmp_path, {"small": 1, "both": [5, 6]}, img_size=16, progress=False)
    assert [(item["case"], item["slice"]) for item in masks] == [(f"image_{n}", z) for n in range(2) for z in (2, 3, 4)]
    item = masks[1]
    assert item["image"].shape == item["label"].shape == (1, 16, 16) and item["image"].max() <= 1
    assert item["label"].unique().tolist() == [0, 2]
    assert (item["label"][0, 8:12, 4:8] == 2).all() and item["label"].count_nonzero() == 16


@pytest.mark.parametrize("axis", ["axial", "coronal"])
def test_files_of_any_orientation_give_the_same_slices(tmp_path, axis):
    cases = write_orientations(tmp_path, *phantom())
    masks = SliceMasks(cases, tmp_path, {"a": 1, "b": 2}, img_size=20, progress=False, axis=axis)
    regions = SliceRegions(cases, tmp_path, 20, scales=(50,), smoothings=(1,), progress=False, axis=axis)
    for data in (masks, regions):
        items = [[item for item in data if item["case"] == case] for case in CODES]
        assert len({len(some) for some in items}) == 1 and len(items[0]) > 3
        for others in items[1:]:
            for one, other in zip(items[0], others, strict=True):
                assert one["slice"] == other["slice"]
                assert all((one[key] == other[key]).all() for key in ("image", "label"))


def test_slices_are_scaled_as_told(tmp_path):
    """Pre-training for CT sees the window that the classifier sees."""
    image, mask = phantom()
    cases = write_orientations(tmp_path, image, mask)
    window = [float(np.percentile(image, 40)), float(np.percentile(image, 60))]
    for options in ({"window": window}, {"foreground": True}, {}):
        store = build_slice_store(cases, tmp_path / "expected", 20, progress=False, **options)
        masks = SliceMasks(cases, tmp_path, {"a": 1, "b": 2}, img_size=20, progress=False, **options)
        regions = SliceRegions(cases, tmp_path, 20, scales=(50,), smoothings=(1,), progress=False, **options)
        for item in (masks[1], regions[1]):
            expected = torch.as_tensor(store.image(item["case"])).reshape(-1, 20, 20)[item["slice"]]
            assert torch.equal(torch.as_tensor(item["image"])[0], expected.float())


def test_volumes_with_structures(data, tmp_path):
    masks = VolumeMasks(data, tmp_path, {"small": 1}, spacing=2.0, samples_per_volume=3, progress=False)
    assert len(masks) == 6 and masks[0]["label"].shape == masks[0]["image"].shape == (1, 16, 16, 6)
    assert masks[0]["label"].sum() == 16 and masks[0]["label"][0, 4:8, 4:8, 2].all()


def test_regions_open_no_mask(data, tmp_path):
    for item in data:
        nib.save(nib.Nifti1Image(np.zeros((1, 1)), np.eye(4)), item["label"])
    slices = SliceRegions(data, tmp_path, img_size=16, progress=False)
    assert len(slices) == 12 and slices[7]["case"] == "image_1" and slices[7]["slice"] == 1
    assert slices[0]["image"].shape == (1, 16, 16) and slices[0]["label"].shape == (9, 16, 16)
    volumes = VolumeRegions(data, tmp_path, 2.0, (0.1, 0.2), (1,), samples_per_volume=2, progress=False)
    assert len(volumes) == 4 and volumes[3]["label"].shape == (2, 16, 16, 6)
    with pytest.raises(ValueError, match="samples_per_volume: expected at least 1, but got 0"):
        VolumeRegions(data, tmp_path, samples_per_volume=0)


@pytest.mark.parametrize(
    ("kind", "settings", "levels"),
    [
        (SliceRegions, {"img_size": 16}, 9),
        (SliceRegions, {"img_size": 16, "scales": (50, 60), "smoothings": (1,)}, 2),
        (SliceRegions, {"img_size": 16, "method": "slic"}, 3),
        (SliceRegions, {"img_size": 16, "method": "mixed"}, 15),
        (VolumeRegions, {"depths": (0.1, 0.2), "smoothings": (1, 2, 3)}, 6),
    ],
)
def test_regions_are_found_when_the_first_item_is_asked_for(kind, settings, levels, data, tmp_path):
    found = kind(data, tmp_path, progress=False, **settings)
    assert len(found) and found.num_levels == levels and not (tmp_path / "regions").exists()
    assert len(found[0]["label"]) == levels and len(list((tmp_path / "regions").glob("*.npy"))) == 2


def test_workers_of_a_loader_find_regions_without_processes_of_their_own(data, tmp_path):
    found = SliceRegions(data, tmp_path, img_size=16, progress=False, num_workers=2)
    ahead = SliceRegions(data, tmp_path / "ahead", img_size=16, progress=False)
    ahead.prepare_items()
    assert len(list((tmp_path / "ahead" / "regions").glob("*.npy"))) == 2
    for batch, item in zip(torch.utils.data.DataLoader(found, num_workers=1), ahead, strict=True):
        assert torch.equal(batch["label"][0], item["label"])


def test_errors(data, tmp_path):
    with pytest.raises(ValueError, match=r"smoothings: expected positive numbers, but got \(0,\)"):
        SliceRegions(data, tmp_path, smoothings=(0,))
    with pytest.raises(ValueError, match=r"expected ascending positive depths .* depths=\(0.2, 0.1\)"):
        VolumeRegions(data, tmp_path, depths=(0.2, 0.1))
    with pytest.raises(ValueError, match="structures: expected at least one name and its label value, but got none"):
        SliceMasks(data, tmp_path, {})
    with pytest.raises(ValueError, match="image_0.nii.gz has no mask; leave the volume out"):
        SliceMasks([{"image": data[0]["image"]}], tmp_path, {"small": 1})
    with pytest.raises(ValueError, match=r"structures: \['aorta'\] occur in no mask; correct the label values"):
        VolumeMasks(data, tmp_path, {"aorta": 7}, progress=False)
