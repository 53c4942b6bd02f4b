from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Resize

from weakmedsam_ext.transforms import SliceWise, SliceWised


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_every_slice_sees_the_transform_alone(axis):
    volume = torch.rand(2, 4, 5, 6)
    brightest = SliceWise(lambda x: x / x.max(), axis)(volume)
    others = [d for d in (0, 1, 2, 3) if d != (axis if axis >= 0 else 2) + 1]
    torch.testing.assert_close(brightest.amax(others), torch.ones(volume.shape[axis + 1 if axis >= 0 else -1]))
    by_numpy = SliceWise(lambda x: x / x.max(), axis)(volume.numpy())
    assert isinstance(by_numpy, np.ndarray)
    np.testing.assert_allclose(by_numpy, brightest.numpy())


def test_slices_may_change_size():
    item = SliceWised("image", Resize((8, 8)))({"image": torch.rand(1, 4, 5, 6)})
    assert item["image"].shape == (1, 8, 8, 6)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="spatial_dim: expected 0, 1, 2 or -1, but got 3"):
        SliceWise(lambda x: x, 3)
    with pytest.raises(ValueError, match=r"volume: expected \(C, X, Y, Z\), but got shape \(4, 5, 6\)"):
        SliceWise(lambda x: x)(torch.zeros(4, 5, 6))
