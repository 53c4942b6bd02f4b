"""Inference turns, crops, pads and resizes by MONAI transforms what training reads from the slice store."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    Orientationd,
    Resize,
    ScaleIntensityRangePercentilesd,
)
from orientations import AFFINE, CODES, phantom, reorder

from weakmedsam_ext.data import CheckedReader, build_slice_store, write_nifti
from weakmedsam_ext.transforms import DrawClicksd, ResizeSlices, ResizeSlicesd, SquarePad, SquarePadd

SIZE = 24


def write_case(folder: Path, codes: str) -> dict[str, str]:
    """A volume of 18 x 14 x 9 voxels of 0.8 x 1.25 x 3 mm with dark margins on all sides but one."""
    image, _ = phantom()
    write_nifti(*reorder(image, AFFINE, codes), folder / f"{codes}.nii.gz")
    return {"case": codes, "image": str(folder / f"{codes}.nii.gz")}


def preprocessing(axis: str) -> Compose:
    """As the inference of a promptable bundle has it."""
    return Compose(
        [
            LoadImaged("image", reader=CheckedReader),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
            ScaleIntensityRangePercentilesd("image", 0.5, 99.5, 0.0, 1.0, clip=True),
            CropForegroundd("image", "image", select_fn=lambda image: image > 0.05, allow_smaller=True),
            SquarePadd("image", axis),
            ResizeSlicesd("image", SIZE, axis),
            DrawClicksd(),
        ]
    )


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(("axis", "stack"), [("axial", 2), ("coronal", 1), ("sagittal", 0)])
def test_slices_of_the_store_and_back(tmp_path, codes, axis, stack):
    case = write_case(tmp_path, codes)
    store = build_slice_store([case], tmp_path / "store", SIZE, progress=False, axis=axis)
    transforms = preprocessing(axis)
    item = transforms({"image": case["image"]})
    slices = item["image"][0].movedim(stack, 0)
    # the store keeps dark slices, CropForeground does not: 2 to the left, 1 behind and 3 in front, 1 at the foot
    kept = {0: slice(2, None), 1: slice(1, -3), 2: slice(1, None)}[stack]
    np.testing.assert_allclose(slices.numpy(), store[codes][kept].astype(np.float32), atol=6e-4)
    # back: the same voxels as SliceGeometry gives, on the file's own grid
    geometry = store.geometry(codes)
    labels = (torch.arange(geometry.num_slices)[:, None, None] + 1).expand(-1, SIZE, SIZE).clone()
    item["pred"] = MetaTensor(labels[kept].movedim(0, stack)[None].float()).copy_meta_from(item["image"])
    item = Invertd("pred", transforms, orig_keys="image", nearest_interp=True, to_tensor=True)(item)
    expected = geometry.to_volume(labels.unsqueeze(1), "nearest")[0].numpy()
    outside = {index + 1 for index in range(geometry.num_slices)} - set(labels[kept].unique().tolist())
    np.testing.assert_array_equal(item["pred"][0].numpy(), np.where(np.isin(expected, list(outside)), 0, expected))


@pytest.mark.parametrize("codes", CODES)
def test_a_click_is_drawn_where_its_voxel_went(tmp_path, codes):
    case = write_case(tmp_path, codes)
    transforms = preprocessing("axial")
    voxel = np.linalg.inv(nib.load(case["image"]).affine) @ AFFINE @ [9, 6, 5, 1]
    item = transforms({"image": case["image"], "clicks": [[*map(int, voxel[:3].round()), 1]]})
    # cropped to 16 x 10 voxels of 0.8 x 1.25 mm, 12.8 x 12.5 mm: a square to the nearest voxel
    expected = (round((9 - 2 + 0.5) * SIZE / 16 - 0.5), round((6 - 1 + 0.5) * SIZE / 10 - 0.5), 4)
    assert item["clicks"][0].nonzero().tolist() == [list(expected)]


def test_affine_of_resized_slices_is_that_of_monai():
    image = MetaTensor(torch.rand(1, 7, 5, 3), affine=torch.diag(torch.tensor([2.0, 1, 3, 1])))
    resize = ResizeSlices(9)
    ours, theirs = resize(image), Resize((9, 9, 3))(image)
    torch.testing.assert_close(ours.affine, theirs.affine)
    # nothing is averaged where slices grow
    torch.testing.assert_close(ours.as_tensor(), Resize((9, 9, 3), mode="trilinear")(image).as_tensor())
    back = resize.inverse(ours)
    torch.testing.assert_close(back.affine, image.affine)
    assert back.shape == image.shape and not back.applied_operations


def test_images_without_metadata():
    image = torch.rand(2, 6, 4)
    assert ResizeSlices(12)(SquarePad()(image)).shape == (2, 12, 12)
    mask = ResizeSlices(3, mode="nearest")(torch.arange(36).reshape(1, 6, 6))
    assert mask.flatten().tolist() == [7, 9, 11, 19, 21, 23, 31, 33, 35]


def test_square_in_millimetres():
    image = MetaTensor(torch.ones(1, 10, 4, 2), affine=torch.diag(torch.tensor([1.0, 2, 5, 1])))
    assert SquarePad()(image).shape == (1, 10, 5, 2)
    assert SquarePad("coronal")(image).shape == (1, 10, 4, 2)
    assert SquarePad("sagittal")(image).shape == (1, 10, 5, 2)
    pad = SquarePad()
    assert pad.inverse(pad(image)).shape == image.shape


def test_wrong_settings():
    with pytest.raises(ValueError, match="axial"):
        SquarePad("axal")
    with pytest.raises(ValueError, match="nearest"):
        ResizeSlices(8, mode="nearst")
    with pytest.raises(ValueError, match="expected 'nearest' for a mask of type torch.uint8, but got 'bilinear'"):
        ResizeSlices(8)(torch.ones(1, 4, 4, dtype=torch.uint8))
