from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from weakmedsam_ext.networks import AffinityRandomWalk
from weakmedsam_ext.transforms import AffinityRefine, AffinityRefined


@pytest.mark.parametrize("as_type", [np.asarray, torch.as_tensor, MetaTensor])
def test_equals_the_network_and_keeps_the_type(as_type):
    maps, guide = torch.rand(2, 9, 11), torch.rand(3, 9, 11)
    expected = AffinityRandomWalk(radius=3, beta=2, num_steps=2, renormalize=False)(maps[None], guide[None])[0]
    refined = AffinityRefine(radius=3, beta=2, num_steps=2)(as_type(maps.numpy()), as_type(guide.numpy()))
    assert type(refined) is type(as_type(maps.numpy()))
    np.testing.assert_allclose(np.asarray(refined), expected.numpy(), atol=1e-6)


def test_fills_the_object_and_stops_at_its_edge():
    image = torch.zeros(1, 16, 16)
    image[:, :, :8] = 1
    seed = torch.zeros(1, 16, 16)
    seed[:, 8, 4] = 1
    item = {"cam": seed, "image": image}
    refined = AffinityRefined("cam", beta=20, num_steps=30)(item)["cam"]
    assert refined[:, :, :8].min() > 1e-3
    assert refined[:, :, 8:].max() < 1e-6
    assert torch.equal(item["cam"], seed)


def test_volumes_are_refined_too():
    assert AffinityRefine(radius=2)(torch.rand(1, 5, 6, 7), torch.rand(1, 5, 6, 7)).shape == (1, 5, 6, 7)
