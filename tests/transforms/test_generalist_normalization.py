from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Resize

from weakmedsam_ext.transforms import generalist_input, normalize_above_zero


def test_voxels_above_zero_give_mean_and_deviation_to_all():
    volume = torch.randn(2, 1, 5, 6, 7) * 40 + 30
    for got, array in zip(normalize_above_zero(volume)[:, 0], volume[:, 0].double().numpy(), strict=True):
        inside = array[array > 0]
        np.testing.assert_allclose(got, (array - inside.mean()) / inside.std(ddof=1), atol=1e-5)


def test_volumes_that_do_not_vary_stay_finite():
    assert (normalize_above_zero(torch.full((1, 1, 3, 3, 3), -2.0)) == -2).all()
    assert (normalize_above_zero(torch.full((1, 1, 3, 3, 3), 7.0)) == 0).all()
    one = torch.zeros(1, 1, 3, 3, 3)
    one[0, 0, 1, 1, 1] = 5
    assert normalize_above_zero(one).amax() == 0 and normalize_above_zero(one).amin() == -5


def test_any_patch_becomes_the_cube():
    volume = torch.rand(2, 1, 10, 12, 6)
    cube = generalist_input(MetaTensor(volume), 8, "none")
    expected = torch.stack([Resize((8, 8, 8), mode="trilinear", anti_aliasing=False)(one) for one in volume])
    assert not isinstance(cube, MetaTensor)
    torch.testing.assert_close(cube, expected.as_tensor())
    torch.testing.assert_close(generalist_input(volume, 8, "above_zero"), normalize_above_zero(cube))
    same = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(generalist_input(same, 8, "none"), same)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="above_zer"):
        generalist_input(torch.rand(1, 1, 4, 4, 4), 8, "above_zer")
