from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from monai.transforms import Compose, RandAdjustContrast, RandGaussianNoise
from test_copy_paste_trainer import first_batch
from test_semi_supervised_trainers import LOSS, generalist, items, trainer_of

from weakmedsam_ext.engines import UniMatchTrainer, draw_cut

STRONG = Compose([RandAdjustContrast(prob=1.0, gamma=(0.5, 2.0)), RandGaussianNoise(prob=1.0)])


def specialist():
    torch.manual_seed(0)
    return BasicUNet(3, 1, 2, (4, 4, 4, 4, 4, 4), norm="batch")


def unimatch(network=None, strong=STRONG, **options):
    return trainer_of(UniMatchTrainer, network or specialist(), strong=strong, num_batches=1, **options)


def on_voxels(logits, number, where):
    """Dice and cross-entropy over some voxels, by picking them out."""
    chosen = where[:, 0].bool()
    picked = [torch.movedim(value, 1, -1)[chosen].movedim(-1, 0)[None, ..., None, None] for value in (logits, number)]
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(*picked)


def test_a_step_is_the_sum_of_the_paper(monkeypatch):
    network = specialist()
    trainer = unimatch(network, data=items(2, 3), streams=(2, 3), confidence=0.6, pseudo_weight=lambda t: 0.8)
    boxes = [(torch.arange(16)[:, None, None] < length).float().expand(1, 16, 16, 16) for length in (3, 0, 5, 8, 2, 0)]
    cuts = iter(boxes)
    monkeypatch.setattr("weakmedsam_ext.engines.unimatch_trainer.draw_cut", lambda size: next(cuts))
    halve = SimpleNamespace(dropout3d=lambda value, rate: value * rate)
    monkeypatch.setattr("weakmedsam_ext.networks.feature_dropout.F", halve)
    changed = iter(0.1 * torch.arange(1, 7))
    trainer.strong = lambda image: image + next(changed)
    before, batch = copy.deepcopy(network), first_batch(trainer)
    trainer.run()
    labelled, weak = batch["image"][:2], batch["image"][2:]
    views = []
    for start in (0, 3):
        strong = [weak[k] + 0.1 * (start + k + 1) for k in range(3)]
        mixed = [torch.where(boxes[start + k] > 0, strong[(k + 1) % 3], strong[k]) for k in range(3)]
        views.append(torch.stack(mixed))
    image = torch.cat([labelled, weak, *views])
    output = trainer.state.output
    torch.testing.assert_close(output["image"], image)
    logits = before(image).detach()
    torch.testing.assert_close(output["pred"].detach(), logits)
    probability, number = logits[2:5].softmax(1).max(1, keepdim=True)
    sure = (probability >= 0.6).float()
    assert 0 < sure.mean() < 1 and output["sure"] == sure.mean()
    expected = on_voxels(halved_features(before, weak), number, sure) / 2
    for first in (0, 1):
        taken = [boxes[3 * first + k] > 0 for k in range(3)]
        target, counts = (
            torch.stack([torch.where(taken[k], value[(k + 1) % 3], value[k]) for k in range(3)])
            for value in (number, sure)
        )
        expected = expected + on_voxels(logits[5 + 3 * first :][:3], target, counts) / 4
    torch.testing.assert_close(output["unimatch_loss"], expected.detach())
    torch.testing.assert_close(output["supervised_loss"], LOSS(logits[:2], batch["label"]))
    torch.testing.assert_close(output["loss"].detach(), output["supervised_loss"] + 0.8 * expected.detach())


def halved_features(network, image):
    """The network's decoder on half of what its encoder gives."""
    x0 = network.conv_0(image)
    x1 = network.down_1(x0)
    x2 = network.down_2(x1)
    x3 = network.down_3(x2)
    x4 = network.down_4(x3)
    x = network.upcat_4(x4 / 2, x3 / 2)
    for layer, skip in ((network.upcat_3, x2), (network.upcat_2, x1), (network.upcat_1, x0)):
        x = layer(x, skip / 2)
    return network.final_conv(x)


def test_targets_carry_no_gradient_and_unsure_voxels_teach_nothing():
    network = specialist()
    trainer = unimatch(network, streams=(1, 2), confidence=1.0)
    trainer.run()
    assert trainer.state.output["sure"] < 1
    gradients = []
    for confidence in (1.0, 0.0):
        trainer = unimatch(specialist(), streams=(1, 2), confidence=confidence)
        weak = torch.randn(2, 2, 16, 16, 16, requires_grad=True)
        trainer._boxes = [torch.zeros(2, 1, 16, 16, 16)] * 2
        trainer.state.output = {}
        trainer._views = torch.randn(4, 2, 16, 16, 16)
        loss = trainer._unimatch_loss(torch.rand(2, 1, 16, 16, 16), weak)
        loss.backward()
        assert weak.grad is None
        gradients.append(sum(float(p.grad.abs().sum()) for p in trainer.network.parameters()))
    assert gradients[0] == 0 < gradients[1]


def test_strong_views_follow_pytorchs_generator():
    trainer, images = unimatch(streams=(1, 2)), torch.rand(2, 1, 8, 8, 8)
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(trainer._change(images))
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0][0], images[0]) and seen[0].shape == images.shape


@pytest.mark.parametrize("options", [{"streams": (2, 0)}, {"streams": (1, 2), "pseudo_weight": lambda t: 0.0}])
def test_without_unlabelled_images_or_weight_it_is_supervised_training(options):
    trainer = unimatch(**options)
    trainer.run()
    output = trainer.state.output
    assert "unimatch_loss" not in output and output["pred"].shape[0] == sum(options["streams"])
    torch.testing.assert_close(output["loss"], output["supervised_loss"])


def test_the_generalist_is_asked_about_weak_views():
    helper = generalist()
    trainer = unimatch(streams=(1, 2), generalist=helper, generalist_weight=lambda t: 1.0)
    batch = first_batch(trainer)
    trainer.run()
    (encoded,) = helper.prompters[0].network.encoded
    torch.testing.assert_close(encoded, batch["image"][1:])
    output = trainer.state.output
    expected = output["supervised_loss"] + output["unimatch_loss"] + output["generalist_loss"]
    torch.testing.assert_close(output["loss"].detach(), expected)


@pytest.mark.parametrize("confidence", [-0.1, 1.5, float("nan")])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(ValueError, match=r"confidence: expected a value in 0\.\.1"):
        unimatch(confidence=confidence)


@pytest.mark.parametrize("size", [(16, 16, 16), (96, 80, 48), (2, 1, 1)])
def test_half_of_the_cuts_are_boxes_of_the_published_volume(size):
    torch.manual_seed(0)
    parts = [float(draw_cut(size).mean()) for _ in range(200)]
    cut = [part for part in parts if part]
    assert 70 < len(cut) < 130
    if min(size) > 8:
        assert 0.01 < min(cut) and max(cut) < 0.45 and len({round(part, 2) for part in cut}) > 5
