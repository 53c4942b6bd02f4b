from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from ignite.metrics import Average
from monai.data import DataLoader

from weakmedsam_ext.engines import ClickRound, Dialogues, PromptableEvaluator, click_iou
from weakmedsam_ext.networks import build_network


def test_click_iou_by_hand():
    """One prompt, two masks, two targets: each target counts with its better mask."""
    masks = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]).view(1, 1, 2, 2, 2)
    targets = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0]]).view(1, 1, 2, 2, 2)
    round_ = ClickRound(masks * 2.0 - 1, torch.zeros(1, 1, 2), targets.float(), torch.ones(1, 1))
    assert click_iou({"pred": Dialogues([round_], None)}).item() == (1 + 0.5) / 2
    # a prompt without a place to click does not count
    twice = ClickRound(*(torch.cat([x, 0 * x], dim=1) for x in round_))
    assert click_iou({"pred": Dialogues([twice, round_], None)}, click=0).item() == 0.75
    assert click_iou({"pred": Dialogues([round_._replace(weight=torch.zeros(1, 1))], None)}).item() == 0


def evaluator(seed):
    regions = torch.arange(4, dtype=torch.int32).view(2, 2).repeat_interleave(16, 0).repeat_interleave(16, 1)
    items = [{"image": torch.rand(1, 32, 32), "label": regions.expand(3, -1, -1)} for _ in range(3)]
    torch.manual_seed(1)
    network = build_network("efficient_sam_tiny", img_size=32)
    metric = {"val_iou": Average(click_iou)}
    return PromptableEvaluator("cpu", DataLoader(items, 2), network, 4, 2, seed, key_val_metric=metric)


def test_same_clicks_every_time_and_nothing_is_drawn_from_a_training():
    one = evaluator(seed=0)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one.run(1)
    first = one.state.metrics["val_iou"]
    torch.testing.assert_close(torch.get_rng_state(), before)
    torch.manual_seed(8)
    one.run(2)
    assert one.state.metrics["val_iou"] == first and 0 <= first <= 1
    assert [len(r) for r in one.state.output["pred"].rounds] == [4, 4]  # a ClickRound has four fields


@pytest.mark.parametrize("first_clicks", ["places", "regions"])
@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize("slices", [True, False])
def test_the_clicks_of_a_case_do_not_depend_on_the_others(others, first_clicks, slices):
    """More scales than a click has masks, and the same case alone or behind others, in batches of two."""
    generator = torch.Generator().manual_seed(0)
    items = []
    for case in ("x", *"abc"[:others]):
        regions = torch.stack([torch.randint(5, (32, 32), generator=generator) for _ in range(5)]).int()
        items.append({"case": case, "image": torch.rand(1, 32, 32, generator=generator), "label": regions})
        items[-1].update({"slice": 4} if slices else {})
    torch.manual_seed(1)
    network = build_network("click_net_2d", img_size=32)

    def answers(items, seed=0):
        found = {}

        def remember(engine):
            for row, case in enumerate(engine.state.batch["case"]):
                found[case] = [x[row] for one in engine.state.output["pred"].rounds for x in (one.target, one.logits)]

        one = PromptableEvaluator("cpu", DataLoader(items, 2), network, 4, 3, seed, first_clicks)
        one.add_event_handler(Events.ITERATION_COMPLETED, remember)
        one.run()
        return found["x"]

    alone = answers(items[:1])
    for one, other in zip(alone, answers([*items[1:], items[0]]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert any(not torch.equal(one, other) for one, other in zip(alone, answers(items[:1], seed=1), strict=True))
