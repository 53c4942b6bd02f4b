from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from weakmedsam_ext.data.synthetic import connected_components, drop_small


def components_of_scipy(labels):
    """Components numbered by the largest flat index that they hold; -1 where labels are negative."""
    result = np.full(labels.shape, -1)
    for value in np.unique(labels[labels >= 0]):
        found, count = ndimage.label(labels == value)
        for piece in range(1, count + 1):
            result[found == piece] = np.flatnonzero(found == piece).max()
    return torch.from_numpy(result)


@pytest.mark.parametrize("size", [(13, 17), (7, 6, 5), (1, 9)])
def test_components_are_those_of_scipy(size):
    labels = torch.randint(-1, 3, (4, *size), generator=torch.Generator().manual_seed(0))
    found = connected_components(labels)
    for item, want in zip(found, labels.numpy(), strict=True):
        assert torch.equal(item, components_of_scipy(want))


def test_a_winding_component_is_one():
    labels = torch.zeros(1, 31, 31, dtype=torch.long)
    labels[:, ::2] = 1
    labels[:, 1::4, -1] = 1
    labels[:, 3::4, 0] = 1
    assert len(connected_components(labels)[labels == 1].unique()) == 1


def test_small_regions_are_dropped():
    regions = torch.tensor([[[0, 0, 5], [0, 7, 7], [-1, -1, -1]]])
    assert torch.equal(drop_small(regions, 3), torch.tensor([[[0, 0, -1], [0, -1, -1], [-1, -1, -1]]]))
