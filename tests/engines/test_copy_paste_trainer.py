from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Events
from monai.losses import DiceCELoss
from monai.transforms import KeepLargestConnectedComponent
from test_semi_supervised_trainers import LOSS, generalist, items, specialist, trainer_of

from weakmedsam_ext.engines import CopyPasteTrainer, draw_box

REGION_LOSS = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)


def first_batch(trainer):
    """Of the first epoch, without labels of its unlabelled items."""
    trainer.data_loader.batch_sampler.set_epoch(1)
    return next(iter(trainer.data_loader))


def on_box(logits, label, box):
    """The loss over a box, by cutting it out."""
    rows = [torch.unique(where) for where in torch.where(box[0, 0] > 0)]
    cut = (..., *(slice(int(row[0]), int(row[-1]) + 1) for row in rows))
    return REGION_LOSS(logits[cut], label[cut])


def around(logits, label, box):
    """The loss outside of a box, by its voxels as one line."""
    flat = [value.movedim(1, 0)[:, (box.expand(len(value), 1, *box.shape[2:])[:, 0] == 0)] for value in (logits, label)]
    return REGION_LOSS(*(value[None, ..., None, None] for value in flat))


def test_a_step_is_the_sum_of_the_paper(monkeypatch):
    data, network = items(2, 2), specialist(dropout=0.0)
    trainer = trainer_of(CopyPasteTrainer, network, data, streams=(2, 2), num_batches=1)
    teacher, box = copy.deepcopy(trainer.teacher.module).eval(), draw_box((16, 16, 16))
    with torch.no_grad():  # a teacher that finds something, and other than its student
        for parameter in teacher.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    trainer.teacher.module.load_state_dict(teacher.state_dict())
    monkeypatch.setattr("weakmedsam_ext.engines.copy_paste_trainer.draw_box", lambda size: box)
    batch = first_batch(trainer)
    trainer.run()
    labelled, unlabelled = batch["image"][:2], batch["image"][2:]
    pseudo = teacher(unlabelled).argmax(1, keepdim=True)
    assert 0 < pseudo.float().mean() < 1
    image = torch.cat([labelled * (1 - box) + unlabelled * box, unlabelled * (1 - box) + labelled * box])
    torch.testing.assert_close(trainer.state.output["image"], image)
    outer, inner = trainer.state.output["pred"].detach().chunk(2)
    true = around(outer, batch["label"], box) + on_box(inner, batch["label"], box)
    guessed = on_box(outer, pseudo, box) + around(inner, pseudo, box)
    torch.testing.assert_close(trainer.state.output["supervised_loss"], true)
    torch.testing.assert_close(trainer.state.output["copy_paste_loss"], guessed)
    torch.testing.assert_close(trainer.state.output["loss"].detach(), true + 0.5 * guessed)


def test_at_first_labelled_volumes_are_mixed_with_each_other(monkeypatch):
    network, box = specialist(), draw_box((16, 16, 16))
    monkeypatch.setattr("weakmedsam_ext.engines.copy_paste_trainer.draw_box", lambda size: box)
    trainer = trainer_of(
        CopyPasteTrainer, network, streams=(2, 2), num_batches=2, pseudo_weight=lambda t: 0.5 * float(t > 0)
    )
    seen = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(dict(engine.state.output)))
    batch = first_batch(trainer)
    asked = []
    trainer.teacher.register_forward_hook(lambda *args: asked.append(1))
    trainer.run()
    first = seen[0]
    for key in ("image", "label"):
        own = batch[key][:2]
        torch.testing.assert_close(first[key], own * (1 - box).to(own) + own.flip(0) * box.to(own))
    torch.testing.assert_close(first["supervised_loss"], LOSS(first["pred"].detach(), first["label"]))
    assert "copy_paste_loss" not in first and "copy_paste_loss" in seen[1] and len(asked) == 1


def test_the_shorter_list_starts_again():
    trainer = trainer_of(CopyPasteTrainer, specialist(), streams=(1, 3), num_batches=1)
    trainer.run()
    assert trainer.state.output["image"].shape[0] == 6 and trainer.state.output["label"].shape[0] == 1


def test_pseudo_labels_are_cleaned_and_carry_no_gradient():
    network = specialist()
    trainer = trainer_of(CopyPasteTrainer, network, streams=(1, 1), clean=KeepLargestConnectedComponent())
    numbers = torch.zeros(1, 1, 8, 8, 8, dtype=torch.long)
    numbers[..., 1:5, 1:5, 1:5] = 1
    numbers[..., 7, 7, 7] = 1
    trainer.teacher.forward = lambda image: torch.nn.functional.one_hot(numbers[:, 0], 2).movedim(-1, 1).float()
    cleaned = trainer._pseudo_label(torch.zeros(1, 1, 8, 8, 8))
    assert cleaned.shape == numbers.shape and cleaned.sum() == 64 and cleaned[..., 7, 7, 7] == 0
    assert not cleaned.requires_grad


def test_the_generalist_is_asked_about_unmixed_volumes_and_teaches():
    network, helper = specialist(), generalist()
    trainer = trainer_of(
        CopyPasteTrainer, network, streams=(1, 2), num_batches=1, generalist=helper, generalist_weight=lambda t: 1.0
    )
    batch = first_batch(trainer)
    trainer.run()
    (encoded,) = helper.prompters[0].network.encoded
    torch.testing.assert_close(encoded, batch["image"][1:])
    output = trainer.state.output
    expected = output["supervised_loss"] + 0.5 * output["copy_paste_loss"] + output["generalist_loss"]
    torch.testing.assert_close(output["loss"].detach(), expected)


@pytest.mark.parametrize("size", [(9, 9, 9), (96, 80, 48), (3, 2, 1)])
def test_a_box_is_two_thirds_of_each_side(size):
    torch.manual_seed(0)
    places = set()
    for _ in range(20):
        box = draw_box(size)
        filled = torch.nonzero(box[0, 0])
        low, high = filled.min(0).values, filled.max(0).values + 1
        assert (high - low).tolist() == [max(1, int(side * 2 / 3)) for side in size]
        assert len(filled) == (high - low).prod()
        places.add(tuple(low.tolist()))
    assert len(places) > 1
