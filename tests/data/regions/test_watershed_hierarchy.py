from __future__ import annotations

import numpy as np
import pytest

from weakmedsam_ext.data.regions.watershed_hierarchy import watershed_hierarchy


def slabs(ndim):
    """Three slabs of 0.2, 0.3 and 0.8 along the first axis, each 10 wide."""
    profile = np.repeat([0.2, 0.3, 0.8], 10)
    return np.broadcast_to(profile.reshape(-1, *(1,) * (ndim - 1)), (30, *(12,) * (ndim - 1))).copy()


@pytest.mark.parametrize("ndim", [2, 3])
def test_edges_separate_regions_until_a_depth_passes_their_height(ndim):
    # a step of s smoothed by 1 pixel has the gradient s * pdf(0.5) = 0.35 s next to it: 0.035 and 0.176
    levels = watershed_hierarchy(slabs(ndim), (0.02, 0.1, 0.3))
    assert levels.shape == (3, 30, *(12,) * (ndim - 1)) and [level.max() + 1 for level in levels] == [3, 2, 1]
    for start in (0, 10, 20):
        inside = levels[0][start + 1 : start + 9]
        assert inside.min() == inside.max()
    fine = [levels[0][place].flat[0] for place in (5, 15, 25)]
    assert len(set(fine)) == 3
    middle = [levels[1][place].flat[0] for place in (5, 15, 25)]
    assert middle[0] == middle[1] != middle[2]


def test_noise_below_the_depth_makes_no_region():
    noisy = slabs(3) + np.random.default_rng(0).normal(0, 0.05, (30, 12, 12))
    fine, coarse = watershed_hierarchy(noisy, (0.001, 0.03))
    assert fine.max() > 20 and coarse.max() + 1 == 2


def test_every_smoothing_is_flooded_on_its_own():
    noisy = slabs(3) + np.random.default_rng(0).normal(0, 0.05, (30, 12, 12))
    both = watershed_hierarchy(noisy, (0.01, 0.03), (1.0, 2.0))
    assert np.array_equal(
        both, np.concatenate([watershed_hierarchy(noisy, (0.01, 0.03), (one,)) for one in (1.0, 2.0)])
    )


@pytest.mark.parametrize("settings", [{"depths": ()}, {"depths": (0.2, 0.1)}, {"depths": (0,)}, {"smoothings": (0,)}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError, match="expected ascending positive depths and positive smoothings"):
        watershed_hierarchy(slabs(2), **{"depths": (0.1,), **settings})
