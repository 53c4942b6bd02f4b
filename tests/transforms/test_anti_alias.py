from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientation, Spacing

from weakmedsam_ext.data import VolumePreprocessing
from weakmedsam_ext.data.io import Volume
from weakmedsam_ext.transforms import AntiAlias, AntiAliasd

AFFINE = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64))


def test_smooths_along_the_axes_that_are_thinned_out_and_no_other():
    image = torch.zeros(1, 15, 15, 15)
    image[0, 7, 7, 7] = 1
    smooth = AntiAlias(2.0)(MetaTensor(image, affine=AFFINE))
    assert (smooth[0, :, 7, 7] > 1e-3).sum() > 5 and (smooth[0, 7, 7, :] > 1e-3).sum() == 3
    assert (smooth[0, 7, :, 7] > 0).sum() == 1  # voxels are 2 mm there already
    assert smooth.sum().item() == pytest.approx(1, abs=1e-4)


def test_three_sizes_are_in_ras_order_whatever_the_orientation():
    """New voxels of 1, 1 and 4 mm: only the axis towards the head is smoothed, here the first one of the array."""
    affine = torch.tensor([[0.0, 1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    image = torch.zeros(1, 9, 9, 9)
    image[0, 4, 4, 4] = 1
    smooth = AntiAlias((1.0, 1.0, 4.0))(MetaTensor(image, affine=affine))
    assert (smooth[0, :, 4, 4] > 0).sum() > 5 and (smooth > 0).sum() == (smooth[0, :, 4, 4] > 0).sum()
    assert torch.equal(
        AntiAlias((2.0,) * 3)(MetaTensor(image, affine=affine)), AntiAlias(2.0)(MetaTensor(image, affine=affine))
    )


def test_same_volume_as_in_the_store():
    array = torch.rand(20, 12, 16)
    lower, upper = np.percentile(array.numpy(), (0.5, 99.5))
    image = MetaTensor(((array - lower) / (upper - lower)).clip(0, 1)[None].float(), affine=AFFINE)
    turn = Orientation("RAS", labels=None)
    ours = Compose([AntiAlias(2.0), turn, Spacing((2.0,) * 3, mode="bilinear", padding_mode="border")])(image)
    stored = VolumePreprocessing(2.0)(Volume("x.nii.gz", (20, 12, 16), AFFINE.numpy(), array.numpy()))
    np.testing.assert_allclose(ours[0].numpy(), stored, atol=1e-5)


def test_dictionary_version_and_errors():
    item = {"image": MetaTensor(torch.rand(1, 4, 4, 4), affine=AFFINE), "other": 1}
    assert AntiAliasd("image", 2.0)(item)["other"] == 1
    with pytest.raises(ValueError, match="spacing: expected one or three positive numbers of mm, but got 0"):
        AntiAlias(0)
    with pytest.raises(ValueError, match="spacing: expected one or three positive numbers"):
        AntiAlias((1.0, 2.0))
