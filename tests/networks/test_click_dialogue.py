from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import ClickDialogue, Prompter, build_network
from weakmedsam_ext.transforms import simulate_clicks

WANTED = torch.zeros(1, 2, 8, 8, dtype=torch.bool)
WANTED[:, 0, :, :4] = True
WANTED[:, 1, :, :2] = True


class Told:
    """Answers call n by what it is told for it, and keeps the prompts."""

    def __init__(self, *answers, takes_background_clicks=True, takes_masks=True):
        self.answers = answers
        self.takes_background_clicks = takes_background_clicks
        self.takes_masks = takes_masks
        self.asked = []

    def answer(self, embedding, points, point_labels, multimask, mask_logits):
        self.asked.append((embedding, points, point_labels, multimask, mask_logits))
        masks = self.answers[len(self.asked) - 1]
        return masks, torch.linspace(0, 1, masks.shape[2]).expand(masks.shape[:3])


def logits(masks):
    """Bool (B, Q, *spatial) as logits (B, Q, 1, *spatial)."""
    return 2.0 * masks.unsqueeze(2) - 1


def held(answerer, wanted=WANTED, clicks=2, **arguments):
    dialogue = ClickDialogue(answerer, "embedded", wanted, simulate_clicks, **arguments)
    for _ in range(clicks):
        dialogue.click()
        dialogue.ask()
    return dialogue


def test_clicks_add_up_and_lie_in_the_error():
    answerer = Told(logits(torch.ones_like(WANTED)), logits(WANTED))
    dialogue = held(answerer)
    assert dialogue.labels.tolist() == [[[1, 0], [1, 0]]]
    for q in range(2):
        first, second = dialogue.points[0, q]
        assert WANTED[0, q][tuple(first)] and not WANTED[0, q][tuple(second)]
    assert [points.shape for _, points, *_ in answerer.asked] == [(1, 2, 1, 2), (1, 2, 2, 2)]
    assert answerer.asked[0][4] is None and torch.equal(answerer.asked[1][4], answerer.answers[0])
    assert torch.equal(dialogue.answered, WANTED) and not dialogue.click()


def test_answerers_get_only_what_they_take():
    everything = logits(torch.ones_like(WANTED))
    answerer = Told(everything, everything, takes_background_clicks=False, takes_masks=False)
    assert held(answerer).labels.tolist() == [[[1, -1], [1, -1]]]
    assert [mask_logits for *_, mask_logits in answerer.asked] == [None, None]


@pytest.mark.parametrize("keep", [True, False])
def test_a_finished_series_keeps_its_answer_or_is_corrected_again(keep):
    half = torch.stack([WANTED[:, 0], ~WANTED[:, 1]], dim=1)  # the first one is done
    answerer = Told(logits(half), logits(~WANTED), logits(WANTED))
    dialogue = held(answerer, clicks=3, keep_finished=keep)
    assert dialogue.labels[0, 0].tolist() == [1, -1, -1 if keep else dialogue.labels[0, 0, 2].item()]
    assert (dialogue.labels[0, 0, 2] >= 0) != keep and dialogue.labels[0, 1].min() >= 0
    assert torch.equal(dialogue.answered, WANTED)


def test_what_has_no_first_click_has_none_later():
    wanted = WANTED.clone()
    wanted[:, 1] = False
    everything = logits(torch.ones_like(wanted))
    for keep in (True, False):
        assert held(Told(everything, everything), wanted, keep_finished=keep).labels.tolist() == [[[1, 0], [-1, -1]]]
    assert not ClickDialogue(Told(), None, torch.zeros_like(WANTED), simulate_clicks).click()


def test_of_several_masks_the_surest_goes_on():
    three = torch.cat([logits(torch.zeros_like(WANTED)), logits(torch.zeros_like(WANTED)), logits(WANTED)], dim=2)
    dialogue = ClickDialogue(Told(three), None, WANTED, simulate_clicks)
    dialogue.click()
    masks, _ = dialogue.ask(multimask=True)
    assert masks.shape[2] == 3 and torch.equal(dialogue.answered, WANTED)


def test_a_dialogue_goes_on_from_given_clicks():
    points, labels = torch.zeros(1, 2, 1, 2, dtype=torch.long), torch.ones(1, 2, 1, dtype=torch.long)
    answerer = Told(logits(WANTED))
    dialogue = held(answerer, clicks=1, points=points, labels=labels, logits=logits(torch.ones_like(WANTED)))
    assert dialogue.labels.tolist() == [[[1, 0], [1, 0]]] and torch.equal(dialogue.points[:, :, :1], points)


@torch.no_grad()
@pytest.mark.parametrize(("name", "size"), [("efficient_sam_tiny", 32), ("sam_vit_tiny", 64), ("sam_med3d_tiny", 32)])
def test_networks_answer_as_without_a_dialogue(name, size):
    """Against a loop that keeps nothing but the clicks and the last logits."""
    network = Prompter(build_network(name, img_size=size, depth=1).eval())
    image = torch.rand(2, 1, *[size] * network.spatial_dims)
    wanted = torch.zeros(2, 3, *image.shape[2:], dtype=torch.bool)
    wanted[:, :, 4:12, 4:20] = True
    embedding = network.encode(image)
    torch.manual_seed(0)
    dialogue = ClickDialogue(network, embedding, wanted, simulate_clicks, keep_finished=False)
    for _ in range(3):
        dialogue.click()
        found, _ = dialogue.ask()
    earlier = None
    for clicks in range(1, 4):
        prompt = dialogue.points[:, :, :clicks], dialogue.labels[:, :, :clicks]
        earlier, _ = network.answer(embedding, *prompt, mask_logits=earlier if network.takes_masks else None)
    assert torch.equal(found, earlier)
