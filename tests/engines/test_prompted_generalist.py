from __future__ import annotations

import pytest
import torch
from generalists import Recorder, cube, logits_of, tiny_generalist
from torch.nn import functional as F

from weakmedsam_ext.engines import PromptedGeneralist
from weakmedsam_ext.networks import build_network
from weakmedsam_ext.transforms import normalize_above_zero, simulate_clicks

MASK = cube()
IMAGE = torch.rand(1, 1, 16, 16, 16)


def ask(network, logits, image=None, **arguments):
    image = IMAGE.expand(len(logits), -1, -1, -1, -1) if image is None else image
    return PromptedGeneralist(network, "none", **arguments)(image, logits)


def click_alike(answered, wanted, *, positive_only):
    """The same draw for every item, so that batches can be compared with single volumes."""
    clicks = [
        simulate_clicks(a[None], w[None], "center", torch.Generator().manual_seed(3), positive_only)
        for a, w in zip(answered, wanted, strict=True)
    ]
    return tuple(torch.cat(parts) for parts in zip(*clicks, strict=True))


def naive_clicks(network, image, logits, num_clicks):
    """One volume, everything anew for every click; the last axis is 8 voxels shorter than the others."""
    image = torch.cat([torch.zeros_like(image[..., :4]), image, torch.zeros_like(image[..., :4])], dim=-1)
    outside = torch.tensor([0.0, -20.0]).view(1, 2, 1, 1, 1).expand(1, 2, 24, 24, 4)
    logits = torch.cat([outside, logits, outside], dim=-1)
    wanted = F.interpolate(logits, (32,) * 3, mode="trilinear").argmax(1) == 1
    volume = normalize_above_zero(F.interpolate(image, (32,) * 3, mode="trilinear"))
    points, labels, low = [], [], None
    for _ in range(num_clicks):
        answered = (
            torch.zeros_like(wanted) if low is None else F.interpolate(low, (32,) * 3, mode="trilinear")[:, 0] > 0
        )
        point, label = click_alike(answered, wanted, positive_only=False)
        points, labels = [*points, point], [*labels, label]
        low, _ = network(volume, torch.stack(points, 1).float(), torch.stack(labels, 1), low)
    return F.interpolate(low, image.shape[2:], mode="trilinear").sigmoid()[..., 4:-4]


@torch.no_grad()
def test_clicks_equal_a_naive_loop_and_defect_5_no_state_across_the_batch():
    network = tiny_generalist().eval()
    image = torch.rand(2, 1, 24, 24, 16)
    foreground = torch.zeros(2, 24, 24, 16, dtype=torch.bool)
    foreground[0, 3:12, 4:14, 2:9] = True
    foreground[1, 8:20, 6:20, 5:14] = True
    logits = logits_of(foreground)
    generalist = PromptedGeneralist(network, "above_zero", num_clicks=3, next_click=click_alike)
    both, swapped = generalist(image, logits), generalist(image.flip(0), logits.flip(0))
    assert both.probability.shape == (2, 1, 24, 24, 16) and both.weight.shape == (2, 1, 1, 1, 1)
    torch.testing.assert_close(swapped.probability.flip(0), both.probability, rtol=0, atol=1e-5)
    for item in range(2):
        alone = naive_clicks(network, image[item : item + 1], logits[item : item + 1], 3)
        torch.testing.assert_close(both.probability[item : item + 1], alone, rtol=0, atol=1e-4)


def test_defect_3_the_background_is_never_the_prompt():
    network = Recorder()
    for weak in (4.0, 0.01):  # softmax probabilities are above 0 everywhere, however weak
        ask(network, logits_of(MASK[None], weak), num_clicks=1)
        points, labels, _ = network.asked[-1]
        assert MASK[tuple(points[0, 0].long())] and labels.tolist() == [[1]]
    ask(network, logits_of(MASK[None]), prompt="mask")
    mask_prompt = network.asked[-1][2]
    assert mask_prompt.shape == (1, 1, 16, 16, 16) and torch.equal(mask_prompt[0, 0] > 0, MASK)


def test_defect_4_the_sign_of_a_click_is_read_where_it_is():
    """First inside the object; where the answer is too large outside of it, with sign 0."""
    everything = torch.full((1, 1, 4, 4, 4), 3.0)
    network = Recorder(answer=everything)
    ask(network, logits_of(MASK[None]), num_clicks=4)
    points, labels, earlier = network.asked[-1]
    assert labels.tolist() == [[1, 0, 0, 0]]
    assert MASK[tuple(points[0, 0].long())] and not any(MASK[tuple(point.long())] for point in points[0, 1:])
    assert torch.equal(earlier, torch.full((1, 1, 16, 16, 16), 3.0))  # logits, not probabilities
    assert [len(labels[0]) for _, labels, _ in network.asked] == [1, 2, 3, 4]
    assert network.asked[0][2] is None


@pytest.mark.parametrize("prompt", ["point", "mask", "uncertainty"])
def test_defect_7_nothing_predicted_means_no_supervision(prompt):
    network = Recorder(answer=torch.full((1, 1, 4, 4, 4), 3.0))
    nothing = torch.zeros_like(MASK)
    empty = ask(network, logits_of(nothing[None]), prompt=prompt)
    assert empty.weight.eq(0).all() and empty.probability.isfinite().all()
    if prompt != "mask":
        assert network.asked == []
    mixed = ask(Recorder(), logits_of(torch.stack([nothing, MASK])), prompt=prompt)
    assert mixed.weight[0].eq(0).all() and mixed.weight[1].gt(0).any()


def test_defect_7_a_perfect_answer_gets_no_more_clicks():
    network = Recorder(answer=logits_of(MASK[None])[:, 1:])
    found = ask(network, logits_of(MASK[None]), num_clicks=10)
    assert len(network.asked) == 1 and torch.equal(found.probability[0, 0] > 0.5, MASK)
    everything = torch.ones_like(MASK)
    full = ask(Recorder(), logits_of(everything[None]))
    assert full.weight.eq(1).all()


def test_a_finished_volume_keeps_its_answer_while_others_go_on():
    answers = torch.stack([logits_of(MASK[None])[0, 1:], torch.full((1, 16, 16, 16), 3.0)])
    network = Recorder(answer=answers)
    found = ask(network, logits_of(torch.stack([MASK, MASK])), num_clicks=3)
    assert [labels.tolist() for _, labels, _ in network.asked][-1] == [[1, -1, -1], [1, 0, 0]]
    assert torch.equal(found.probability[0, 0] > 0.5, MASK) and found.weight.eq(1).all()


def test_defect_6_the_weight_falls_where_maps_disagree():
    half = logits_of(cube(start=4, stop=7)[None], 20.0)[:, 1:]
    found = ask(Recorder(answer=half), logits_of(MASK[None], 40.0), prompt="uncertainty", num_prompts=2)
    agree = cube(start=4, stop=7) | ~MASK
    weight = found.weight[0, 0]
    assert weight.shape == MASK.shape and weight[agree].gt(0.99).all()
    # two maps say 0 and the specialist 1: deviation sqrt(2) / 3
    torch.testing.assert_close(weight[~agree].unique().mean(), torch.tensor(-10 * 2**0.5 / 3).exp(), rtol=1e-3, atol=0)


def test_uncertainty_draws_its_series_independently():
    network = Recorder()
    ask(network, logits_of(torch.stack([MASK, MASK])), prompt="uncertainty", num_prompts=8, num_clicks=1)
    ((points, labels, _),) = network.asked
    assert points.shape == (16, 1, 3) and labels.eq(1).all() and len(points[:, 0].unique(dim=0)) > 4
    assert len(network.encoded) == 1


def test_several_generalists_are_averaged_by_their_predicted_iou():
    sure, unsure = (
        Recorder(iou=iou, answer=torch.full((1, 1, 4, 4, 4), value)) for iou, value in ((0.9, 2.0), (0.3, -1.0))
    )
    found = ask([sure, unsure], logits_of(MASK[None]), prompt="mask")
    expected = 0.75 * torch.tensor(2.0).sigmoid() + 0.25 * torch.tensor(-1.0).sigmoid()
    torch.testing.assert_close(found.probability.unique(), expected[None])


def test_defect_9_prompts_are_logits():
    logits = logits_of(MASK[None])
    with pytest.raises(ValueError, match="logits: expected logits, but got probabilities; leave out the softmax"):
        ask(Recorder(), logits.softmax(1))
    network = Recorder()
    ask(network, logits, prompt="mask")
    torch.testing.assert_close(network.asked[0][2].sigmoid()[:, 0], logits.softmax(1)[:, 1])


def test_classes_are_asked_one_after_the_other_on_one_embedding():
    first, second = cube(start=2, stop=6), cube(start=9, stop=14)
    logits = torch.stack([torch.zeros(16, 16, 16), 6 * first - 3.0, 6 * second - 3.0])[None]
    network = Recorder()
    found = ask(network, logits, num_clicks=1)
    assert len(network.encoded) == 1 and len(network.asked) == 2 and found.probability.shape == (1, 2, 16, 16, 16)
    assert all(
        mask[tuple(points[0, 0].long())] for mask, (points, _, _) in zip((first, second), network.asked, strict=True)
    )
    only_second = ask(Recorder(), torch.stack([logits[0, 0], logits[0, 0] - 3, logits[0, 2]])[None])
    assert only_second.weight.flatten().tolist() == [0, 1]


def test_defect_8_each_volume_is_encoded_once_and_networks_stay_frozen():
    network = Recorder().train()
    generalist = PromptedGeneralist(network, "none", num_clicks=5)
    holder = torch.nn.Sequential(generalist).train()
    logits = logits_of(torch.stack([MASK, MASK])).requires_grad_()
    found = generalist(torch.rand(2, 1, 16, 16, 16), logits)
    assert len(network.encoded) == 1 and len(network.encoded[0]) == 2
    assert not network.training and not holder[0].prompters[0].training and not network.weight.requires_grad
    assert not found.probability.requires_grad and not found.weight.requires_grad


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="networks: expected at least one"):
        PromptedGeneralist([], "none")
    flat = build_network("efficient_sam_tiny", img_size=32, depth=1)
    with pytest.raises(ValueError, match="expected networks for volumes, but got EfficientSAM"):
        PromptedGeneralist(flat, "none")
    with pytest.raises(ValueError, match="points"):
        PromptedGeneralist(Recorder(), "none", prompt="points")
    with pytest.raises(ValueError, match="zscore"):
        PromptedGeneralist(Recorder(), "zscore")
    with pytest.raises(ValueError, match="expected num_clicks >= 1.*but got num_clicks=0"):
        PromptedGeneralist(Recorder(), "none", num_clicks=0)
    with pytest.raises(ValueError, match=r"expected an image \(B, 1, D, H, W\).*but got \(1, 2, 16, 16, 16\)"):
        ask(Recorder(), logits_of(MASK[None]), torch.rand(1, 2, 16, 16, 16))
