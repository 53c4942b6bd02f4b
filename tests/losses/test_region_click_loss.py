from __future__ import annotations

import statistics

import pytest
import torch

from weakmedsam_ext.losses import RegionClickLoss, clicked_regions, region_numbers
from weakmedsam_ext.networks import RandomClicks, build_network


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


@pytest.mark.parametrize("masks", [1, 3])
def test_perfect_masks_have_no_loss_and_empty_ones_do(regions, masks):
    points = torch.tensor([[[12, 3]]])
    wanted = clicked_regions(regions, points.flip(-1), (16, 16))
    wanted = wanted if masks == 3 else wanted[:, :, 1:2]
    loss = RegionClickLoss()
    assert loss((100 * (2 * wanted - 1), torch.ones(1, 1, masks), points), regions) < 1e-3
    assert loss((-100 * torch.ones_like(wanted), torch.zeros(1, 1, masks), points), regions) > 5


def test_predicted_iou_learns_the_true_one(regions):
    points = torch.tensor([[[12, 3]]])
    half = torch.full((1, 1, 1, 16, 16), -100.0)
    half[..., :4, :] = 100  # half of the top half
    losses = [RegionClickLoss()((half, torch.full((1, 1, 1), iou), points), regions) for iou in (0.5, 0.9)]
    assert losses[1] - losses[0] == pytest.approx(0.4**2, abs=1e-3)


def test_every_mask_needs_its_scale(regions):
    answers = torch.zeros(1, 1, 3, 4, 4), torch.zeros(1, 1, 3), torch.zeros(1, 1, 2)
    with pytest.raises(ValueError, match="target: expected one for each of 3 masks, but got 2; use assignment"):
        RegionClickLoss()(answers, regions[:, :2])
    assert RegionClickLoss(assignment="minimum")(answers, regions[:, :2]).isfinite()
    with pytest.raises(ValueError, match=r"target: expected regions of shape \(B, L, H, W\), but got \(1, 3, 16\)"):
        RegionClickLoss()(answers, regions[..., 0])


def test_the_region_under_the_click_of_a_volume():
    regions = torch.zeros(2, 1, 4, 6, 8, dtype=torch.int)
    regions[1, 0, 2:, :3, 4:] = 5
    points = torch.tensor([[[0, 0, 0]], [[3, 1, 7]]])
    assert region_numbers(regions, points).tolist() == [[[0]], [[5]]]
    found = clicked_regions(regions, points, (2, 3, 4))
    assert found[0].min() == 1 and found[1, 0, 0].sum() == 1 * 1.5 * 2
    assert found[1, 0, 0, 1, :, 3].tolist() == [1, 0.5, 0]


@pytest.mark.slow
def test_a_tiny_network_learns_one_image(regions):
    network = RandomClicks(build_network("efficient_sam_tiny", img_size=32, depth=1), num_clicks=8)
    image = (regions[:, :1].float() / 3).repeat_interleave(2, -1).repeat_interleave(2, -2)
    target = regions.repeat_interleave(2, -1).repeat_interleave(2, -2)
    optimiser, loss = torch.optim.AdamW(network.parameters(), 1e-3), RegionClickLoss()
    history = []
    for _ in range(350):  # at first it answers every click alike; then it finds out where the click is
        optimiser.zero_grad()
        value = loss(network(image), target)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        history.append(float(value.detach()))
    assert statistics.median(history[-20:]) < 0.2 * statistics.median(history[:20])


def test_clicks_follow_the_seed_and_both_outputs_are_trained():
    network = RandomClicks(build_network("efficient_sam_tiny", img_size=32, depth=1).eval())
    answers = []
    for _ in range(2):
        torch.manual_seed(3)
        answers.append(network(torch.ones(2, 1, 32, 32)))
    assert torch.equal(answers[0].points, answers[1].points) and torch.equal(answers[0].masks, answers[1].masks)
    assert answers[0].points.shape == (2, 8, 2) and 0 <= answers[0].points.min() <= answers[0].points.max() < 32
    for probability, masks in ((0, 3), (1, 1)):
        network.single_probability = probability
        assert network(torch.ones(1, 1, 32, 32)).masks.shape[2] == masks
    with pytest.raises(ValueError, match="num_clicks: expected at least 1, but got 0"):
        RandomClicks(network.backbone, 0)
    with pytest.raises(ValueError, match="single_probability: expected a value in 0..1, but got 2"):
        RandomClicks(network.backbone, 1, 2)
