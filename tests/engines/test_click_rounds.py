from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.engines import ClickRounds
from weakmedsam_ext.losses import mask_iou
from weakmedsam_ext.networks import build_network


class BlockNetwork(torch.nn.Module):
    """Answers with the 4 x 4 blocks that hold an object click, without those that hold a background click.

    Logits are half as fine as the image of 16 x 16 pixels. Asked for three masks it gives the block, everything and
    nothing. It remembers what it was asked.
    """

    spatial_dims = 2
    takes_masks = True

    def __init__(self, takes_background_clicks=True):
        super().__init__()
        self.takes_background_clicks = takes_background_clicks
        self.asked = []

    def encode(self, image):
        return None, image

    def decode(self, embedding, points, point_labels, multimask=False, mask_logits=None):
        self.asked.append((points, point_labels, mask_logits))
        blocks = torch.zeros(*points.shape[:2], 4, 4) if mask_logits is None else mask_logits[:, :, 0, ::2, ::2] > 0
        answer = blocks.float()
        for b, q, n in torch.cartesian_prod(*map(torch.arange, points.shape[:3])).tolist():
            if point_labels[b, q, n] != -1:
                column, row = (points[b, q, n] // 4).long().tolist()
                answer[b, q, row, column] = point_labels[b, q, n]
        masks = answer.repeat_interleave(2, -1).repeat_interleave(2, -2).unsqueeze(2)
        if multimask:
            masks = torch.cat([masks, torch.ones_like(masks), torch.zeros_like(masks)], dim=2)
        return 20 * masks - 10, torch.zeros(masks.shape[:3])


def regions_of_blocks(*scales):
    """(1, L, 16, 16) from 4 x 4 region numbers."""
    regions = torch.tensor(scales, dtype=torch.int32)[None]
    return regions.repeat_interleave(4, -1).repeat_interleave(4, -2)


L_SHAPE = [[1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]  # region 1 is 4 blocks, region 0 is 12


def fits(rounds):
    return torch.stack([mask_iou(one.logits[:, :, 0] > 0, one.target[:, :, 0] > 0.5, 2) for one in rounds])


def test_corrections_make_an_oracle_perfect():
    network = BlockNetwork()
    regions = regions_of_blocks([[number - 1 for number in row] for row in L_SHAPE])  # only the L is clickable
    with torch.no_grad():
        rounds = ClickRounds(network, 5, 6, single_share=1)(torch.rand(1, 1, 16, 16), regions).rounds
    values = fits(rounds)  # (6, 1, 5)
    assert values[0].eq(0.25).all() and values[-1].eq(1).all()
    assert (values[1:] >= values[:-1]).all()
    # clicks lie in the error, so every one finds a block that is missing, until nothing is
    assert torch.equal(values[:, 0, 0], torch.tensor([0.25, 0.5, 0.75, 1, 1, 1]))
    points, labels, _ = network.asked[-1]
    assert points.shape == (1, 5, 6, 2) and labels[0].tolist() == [[1, 1, 1, 1, -1, -1]] * 5


def test_corrections_start_from_the_mask_that_fits_the_wanted_scale():
    """Scales: the L and the rest, everything. Masks: the block under the click, everything, nothing."""
    network = BlockNetwork()
    regions = regions_of_blocks(L_SHAPE, [[0] * 4] * 4)
    first, second = ClickRounds(network, 64, 2, single_share=0)(torch.rand(1, 1, 16, 16), regions).rounds
    assert first.logits.shape == (1, 64, 3, 8, 8) and first.target.shape == (1, 64, 2, 8, 8)
    start, target = network.asked[1][2], second.target
    for q in range(64):
        values = mask_iou(first.logits[0, q] > 0, target[0, q] > 0.5, 2)
        assert torch.equal(start[0, q, 0], first.logits[0, q, values.argmax()])
    whole = target.flatten(3).eq(1).all(-1)[0, :, 0]
    assert 16 < whole.sum() < 48  # both scales are wanted
    assert start.flatten(3).min(-1).values[0, :, 0][whole].eq(10).all()


def test_single_masks_learn_a_random_scale():
    """Which scale is wanted cannot be told from the first click, so the single mask meets all of them."""
    regions = regions_of_blocks(L_SHAPE, [[0] * 4] * 4, [[7] * 4] * 4)
    regions[:, 1, :8] = 1
    (only,) = ClickRounds(BlockNetwork(), 64, 1, single_share=1)(torch.rand(1, 1, 16, 16), regions).rounds
    assert only.logits.shape[2] == only.target.shape[2] == 1
    sizes = only.target.sum((-2, -1)).flatten()
    counts = [int((sizes == size).sum()) for size in (32, 64)]  # halves, everything
    assert all(10 < count < 36 for count in [*counts, 64 - sum(counts)])
    multiple, single = ClickRounds(BlockNetwork(), 4, 1, single_share=0.25)(torch.rand(1, 1, 16, 16), regions).rounds
    assert multiple.logits.shape[:3] == multiple.target.shape[:3] == (1, 3, 3)
    assert single.logits.shape[:3] == single.target.shape[:3] == (1, 1, 1)


def test_single_masks_are_corrected_towards_the_scale_that_they_learn():
    regions = regions_of_blocks(L_SHAPE, [[0] * 4] * 4)
    first, second = ClickRounds(BlockNetwork(), 16, 2, single_share=1)(torch.rand(1, 1, 16, 16), regions).rounds
    assert torch.equal(first.target, second.target)


def test_only_clickable_places_are_clicked_and_images_without_any_do_no_harm():
    network = BlockNetwork()
    regions = torch.full((2, 2, 16, 16), -1, dtype=torch.int32)
    regions[0, :, 3, 5:7] = 2
    regions[0, 0, 9] = regions[1, 0] = 0  # at one scale only
    rounds = ClickRounds(network, 8, 3)(torch.rand(2, 1, 16, 16), regions).rounds
    points, labels, _ = network.asked[-1]
    assert points[0, :, 0, 1].eq(3).all() and points[0, :, 0, 0].unique().tolist() == [5, 6]
    assert labels[0, :, 0].eq(1).all() and labels[1].eq(-1).all()
    assert [one.weight.tolist() for one in rounds] == [[[1] * n, [0] * n] for n in (6, 2, 8, 8)]


def test_networks_are_asked_only_for_what_they_take():
    network = build_network("efficient_sam_tiny", img_size=32, depth=1)
    rounds = ClickRounds(network, 4, 6)
    asked = []
    answer = rounds.prompter.answer
    rounds.prompter.answer = lambda *args, **kw: asked.append((args, kw)) or answer(*args, **kw)
    regions = torch.randint(3, (2, 3, 32, 32), dtype=torch.int32)
    assert [one.logits.shape[1] for one in rounds(torch.rand(2, 1, 32, 32), regions).rounds] == [3, 1, 4, 4, 4, 4, 4]
    assert all((args[2] != 0).all() and kw.get("mask_logits") is None for args, kw in asked)


@pytest.mark.parametrize("name, size", [("sam_vit_tiny", 64), ("samus_tiny", 64), ("sam_med3d_tiny", 32)])
def test_gradients_reach_every_part_and_not_the_earlier_answers(name, size):
    network = build_network(name, img_size=size, depth=1, global_attn_indexes=(0,))
    spatial = (size,) * network.spatial_dims
    regions = torch.randint(2, (1, 2, *spatial), dtype=torch.int32)
    rounds = ClickRounds(network, 2, 3, single_share=0)(torch.rand(1, 1, *spatial), regions).rounds
    assert len(rounds) == 3
    (earlier,) = torch.autograd.grad(rounds[2].logits.sum(), rounds[1].logits, allow_unused=True, retain_graph=True)
    assert earlier is None
    sum(one.logits.square().mean() + one.iou.square().mean() for one in rounds).backward()
    untouched = {n for n, p in network.named_parameters() if p.grad is None}
    # never asked for: boxes, and for volumes the "no mask" vector of the published files
    allowed = ("point_embeddings.2", "point_embeddings.3", "no_mask_embed", "invalid_points", "not_a_point")
    assert all(any(part in one for part in allowed) for one in untouched), untouched
    assert network.prompt_encoder.mask_downscaling[0].weight.grad.abs().max() > 0


def test_wrong_settings_and_shapes_are_refused():
    with pytest.raises(ValueError, match="num_clicks: expected at least 1, but got 0"):
        ClickRounds(BlockNetwork(), 0)
    with pytest.raises(ValueError, match="num_rounds: expected at least 1, but got 0"):
        ClickRounds(BlockNetwork(), 1, 0)
    with pytest.raises(ValueError, match="single_share: expected a value in 0..1, but got -1"):
        ClickRounds(BlockNetwork(), single_share=-1)
    with pytest.raises(ValueError, match=r"regions: expected \(B, L, \*spatial\) that fits the image \(1, 1, 16, 16\)"):
        ClickRounds(BlockNetwork())(torch.rand(1, 1, 16, 16), torch.zeros(1, 16, 16))


def test_first_clicks_are_fair_to_places_or_to_regions():
    """A small region in a large one: its area of the clicks, or half of them; never where clicks are forbidden."""
    blocks = [[0] * 4 for _ in range(4)]
    blocks[0][0], blocks[3][3] = 1, -1
    regions = regions_of_blocks(blocks)
    share = {}
    for rule in ("places", "regions"):
        torch.manual_seed(0)
        network = BlockNetwork()
        ClickRounds(network, 400, 1, single_share=1, first_clicks=rule)(torch.rand(1, 1, 16, 16), regions)
        (points, labels, _) = network.asked[0]
        column, row = (points[0, :, 0] // 4).long().unbind(-1)
        assert (labels == 1).all() and not ((column == 3) & (row == 3)).any()
        share[rule] = float(((column == 0) & (row == 0)).float().mean())
    assert share["places"] == pytest.approx(1 / 15, abs=0.04) and share["regions"] == pytest.approx(1 / 2, abs=0.08)
    with pytest.raises(ValueError, match="Unsupported option 'nowhere'"):
        ClickRounds(network, first_clicks="nowhere")


def test_the_rule_that_draws_corrections_is_passed_in():
    """A rule that always clicks into the last place: corrections go there, first clicks do not."""

    def last_place(answered, wanted, *, positive_only):
        return torch.full((len(wanted), 2), 15), torch.ones(len(wanted), dtype=torch.long)

    network = BlockNetwork()
    regions = regions_of_blocks([[number - 1 for number in row] for row in L_SHAPE])
    ClickRounds(network, 4, 3, next_click=last_place)(torch.rand(1, 1, 16, 16), regions)
    points, _, _ = network.asked[-1]
    assert points[0, :, 1:].eq(15).all() and points[0, :, 0].lt(15).all()
