from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.losses import clicked_regions, region_numbers


@pytest.fixture
def regions():
    """Scales of 1, 2 and 4 quarters: quadrants, halves, everything."""
    quadrant = torch.zeros(16, 16)
    quadrant[:8, 8:], quadrant[8:, :8], quadrant[8:, 8:] = 1, 2, 3
    return torch.stack([quadrant, (quadrant >= 2).float(), torch.zeros(16, 16)]).unsqueeze(0).int()


def test_the_region_under_the_click(regions):
    found = clicked_regions(regions, torch.tensor([[[3, 12], [15, 1]]]), (4, 4))  # row, column
    assert found.shape == (1, 2, 3, 4, 4)
    assert found[0, 0, 0].sum() == 4 and found[0, 0, 0, 0, 3] == 1  # top right quadrant
    assert found[0, 0, 1].sum() == 8 and found[0, 0, 1, 0].sum() == 4  # top half
    assert found[0, 1, 0, 3, 0] == 1 and found[0, :, 2].min() == 1


def test_the_region_under_the_click_of_a_volume():
    regions = torch.zeros(2, 1, 4, 6, 8, dtype=torch.int)
    regions[1, 0, 2:, :3, 4:] = 5
    points = torch.tensor([[[0, 0, 0]], [[3, 1, 7]]])
    assert region_numbers(regions, points).tolist() == [[[0]], [[5]]]
    found = clicked_regions(regions, points, (2, 3, 4))
    assert found[0].min() == 1 and found[1, 0, 0].sum() == 1 * 1.5 * 2
    assert found[1, 0, 0, 1, :, 3].tolist() == [1, 0.5, 0]
