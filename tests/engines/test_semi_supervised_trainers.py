from __future__ import annotations

import copy
from inspect import signature

import numpy as np
import pytest
import torch
from generalists import Recorder, tiny_generalist
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import IterationEvents, SupervisedTrainer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, RandFlipd
from torch.nn import functional as F

from weakmedsam_ext.data import TwoStreamSampler, collate_two_streams, semi_supervised_items, write_nifti
from weakmedsam_ext.engines import (
    AdversarialTrainer,
    CopyPasteTrainer,
    MeanTeacherTrainer,
    PromptedGeneralist,
    SemiSupervisedTrainer,
    SigmoidRampdown,
    SigmoidRampup,
    UncertaintyAwareMeanTeacherTrainer,
    sigmoid_rampup,
)
from weakmedsam_ext.handlers import GradientClipping, ResumableEpochs
from weakmedsam_ext.losses import ConsistencyLoss, GeneralistLoss, UncertaintyConsistencyLoss
from weakmedsam_ext.networks import MaskDiscriminator, MeanTeacher

LOSS = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
UNMIXED = [SemiSupervisedTrainer, MeanTeacherTrainer, UncertaintyAwareMeanTeacherTrainer, AdversarialTrainer]
TRAINERS = [*UNMIXED, CopyPasteTrainer]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def ball(seed, size=16):
    generator = np.random.default_rng(seed)
    middle = generator.uniform(5, 11, 3)
    mask = np.linalg.norm(np.moveaxis(np.indices((size,) * 3), 0, -1) - middle, axis=-1) < generator.uniform(3, 5)
    return (mask + 0.2 * generator.normal(size=mask.shape)).astype(np.float32), mask.astype(np.uint8)


def items(labelled=2, unlabelled=6):
    volumes = [ball(seed) for seed in range(labelled + unlabelled)]
    data = [{"image": torch.from_numpy(image)[None], "label": torch.from_numpy(mask)[None]} for image, mask in volumes]
    return data[:labelled] + [{"image": item["image"]} for item in data[labelled:]]


def specialist(device="cpu", dropout=0.1):
    torch.manual_seed(0)
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,), norm="batch", dropout=dropout)
    return network.to(device)


def trainer_of(
    kind,
    network,
    data=None,
    epochs=1,
    streams=(1, 3),
    num_batches=None,
    transform=None,
    handlers=(),
    checkpoint=None,
    device="cpu",
    num_workers=0,
    lr=0.05,
    classes=2,
    **arguments,
):
    data = items() if data is None else data
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9)
    objects = {"network": network, "optimizer": optimizer}
    if issubclass(kind, (MeanTeacherTrainer, CopyPasteTrainer)):
        objects["teacher"] = arguments["teacher"] = MeanTeacher(network)
    if issubclass(kind, AdversarialTrainer):
        torch.manual_seed(1)
        discriminator = MaskDiscriminator(1 + classes, 4, 2).to(device)
        adam = torch.optim.Adam(discriminator.parameters(), 1e-4, (0.9, 0.99))
        objects.update(discriminator=discriminator, discriminator_optimizer=adam)
        arguments.update(discriminator=discriminator, discriminator_optimizer=adam)
    if checkpoint is not None:
        handlers = [*handlers, ResumableEpochs(checkpoint, objects, 5, transform, keep=True)]
    sampler = TwoStreamSampler(data, *streams, num_batches=num_batches)
    loader = DataLoader(
        Dataset(data, transform), num_workers=num_workers, batch_sampler=sampler, collate_fn=collate_two_streams
    )
    trainer = kind(device, epochs, loader, network, optimizer, LOSS, train_handlers=handlers, **arguments)
    trainer.history = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: engine.history.append(float(engine.state.output["loss"].detach()))
    )
    return trainer


def generalist(network=None, **arguments):
    return PromptedGeneralist(network or Recorder(), "none", **{"num_clicks": 2, **arguments})


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", UNMIXED)
def test_an_iteration_has_monais_events_and_the_sum_of_its_parts(kind):
    network = specialist()
    trainer = trainer_of(
        kind,
        network,
        num_batches=1,
        generalist=generalist(),
        generalist_weight=lambda t: 0.5,
        handlers=[GradientClipping(network)],
    )
    fired = []
    for event in IterationEvents:
        trainer.add_event_handler(event, lambda engine, event=event: fired.append(event))
    torch.manual_seed(3)
    trainer.run()
    assert fired == [
        IterationEvents.FORWARD_COMPLETED,
        IterationEvents.LOSS_COMPLETED,
        IterationEvents.BACKWARD_COMPLETED,
        IterationEvents.MODEL_COMPLETED,
    ]
    output = trainer.state.output
    assert output["image"].shape[0] == 4 and output["label"].shape[0] == 1 and output["pred"].shape[:2] == (4, 2)
    pred = output["pred"].detach()
    torch.testing.assert_close(output["supervised_loss"], LOSS(pred[:1], output["label"]))
    expected = output["supervised_loss"] + 0.5 * output["generalist_loss"]
    for name in ("consistency", "adversarial"):
        expected = expected + SigmoidRampup()(0) * output.get(f"{name}_loss", 0)
    torch.testing.assert_close(output["loss"].detach(), expected)


@pytest.mark.parametrize("kind", TRAINERS)
def test_without_the_unlabelled_stream_every_trainer_is_monais_supervised_one(kind):
    data, network = items(), specialist()
    trainer = trainer_of(kind, network, data, streams=(2, 0), num_batches=3, generalist=generalist())
    plain = specialist()
    loader = DataLoader(Dataset(data), batch_sampler=trainer.data_loader.batch_sampler, collate_fn=collate_two_streams)
    optimizer = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.9)
    reference = SupervisedTrainer("cpu", 1, loader, plain, optimizer, LOSS, decollate=False)
    for engine in (trainer, reference):
        torch.manual_seed(3)
        engine.run()
    assert same(network.state_dict(), plain.state_dict())
    assert trainer.generalist.prompters[0].network.encoded == []
    assert not {"consistency_loss", "adversarial_loss", "generalist_loss"} & set(trainer.state.output)


def test_mean_teacher_equals_a_naive_loop():
    data, network = items(), specialist(dropout=0.0).double()
    data = [{**item, "image": item["image"].double()} for item in data]  # single precision drifts apart in five steps
    trainer = trainer_of(MeanTeacherTrainer, network, data, num_batches=5, consistency_weight=lambda t: 0.1 * t)
    torch.manual_seed(3)
    trainer.run()

    student = specialist(dropout=0.0).double()
    teacher = copy.deepcopy(student)
    optimizer = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9)
    torch.manual_seed(3)
    for t, batch in enumerate(trainer.data_loader):  # which draws a random number, too
        logits = student(batch["image"])
        loss = LOSS(logits[:1], batch["label"])
        if t:
            noisy = batch["image"][1:] + (torch.randn(3, 1, 16, 16, 16) * 0.1).clamp(-0.2, 0.2)
            with torch.no_grad():
                taught = teacher(noisy).softmax(1)
            loss = loss + 0.1 * t * (logits[1:].softmax(1) - taught).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay = min(1 - 1 / (t + 1), 0.99)
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.copy_(decay * old + (1 - decay) * new)
            for old, new in zip(teacher.buffers(), student.buffers(), strict=True):
                old.copy_(new)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(trainer.teacher.module.state_dict()[name], value)


def test_the_uncertain_are_found_by_eight_passes_beside_the_one_that_teaches(monkeypatch):
    trainer = trainer_of(UncertaintyAwareMeanTeacherTrainer, specialist(), num_batches=3)
    passes = [3 * torch.randn(3, 2, 16, 16, 16) for _ in range(27)]
    asked = []
    monkeypatch.setattr(trainer, "_teach", lambda image: asked.append(image) or passes[len(asked) - 1])
    trainer.run()
    assert len(asked) == 27
    mean = torch.stack([logits.softmax(1) for logits in passes[19:27]]).mean(0)
    expected = UncertaintyConsistencyLoss()(trainer.state.output["pred"][1:], passes[18], mean, sigmoid_rampup(2, 3))
    torch.testing.assert_close(trainer.state.output["consistency_loss"], expected.detach())
    without = ConsistencyLoss()(trainer.state.output["pred"][1:], passes[18]).detach()
    assert not torch.allclose(expected.detach(), without)


def test_the_discriminator_learns_from_both_kinds_and_only_by_its_own_optimiser():
    network = specialist(dropout=0.0)
    trainer = trainer_of(AdversarialTrainer, network, num_batches=1, adversarial_weight=lambda t: 1.0)
    judge = trainer.discriminator
    for module in judge.modules():
        if isinstance(module, torch.nn.Dropout3d):
            module.p = 0.0
    before = copy.deepcopy(judge)
    gradients = []
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda engine: gradients.extend(p.grad for p in judge.parameters())
    )
    trainer.run()
    output = trainer.state.output
    verdict = before(output["image"], output["pred"].detach().softmax(1))
    fools = F.binary_cross_entropy_with_logits(verdict[1:], torch.ones(3, 1))
    torch.testing.assert_close(output["adversarial_loss"], fools.detach())
    loss = F.binary_cross_entropy_with_logits(verdict, torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    torch.testing.assert_close(output["discriminator_loss"], loss.detach())
    loss.backward()
    for mine, naive in zip(judge.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, naive.grad)  # nothing of the specialist's loss is in it
        assert mine.requires_grad
    assert gradients and all(gradient is None for gradient in gradients)
    assert not same(judge.state_dict(), before.state_dict())


@pytest.mark.skipif(
    "accumulation_steps" not in signature(SupervisedTrainer).parameters, reason="MONAI before 1.6 does not accumulate"
)
def test_the_teacher_follows_only_when_the_optimiser_steps():
    network = specialist()
    trainer = trainer_of(MeanTeacherTrainer, network, num_batches=5, accumulation_steps=2)
    updates = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: updates.append(int(engine.teacher.n_averaged)))
    trainer.run()
    assert updates == [0, 1, 1, 2, 3]  # the last one ends the epoch


class Killed(Exception):
    pass


def kill(engine):
    raise Killed


@pytest.mark.parametrize(("kind", "num_workers"), [*((kind, 0) for kind in TRAINERS), (SemiSupervisedTrainer, 1)])
def test_a_killed_training_ends_with_the_same_weights(kind, num_workers, tmp_path):
    def run(folder, killed_at=None):
        network = specialist()
        flips = Compose([RandFlipd(("image", "label"), 0.5, axis, allow_missing_keys=True) for axis in range(3)])
        trainer = trainer_of(
            kind,
            network,
            epochs=3,
            num_batches=2,
            transform=flips,
            checkpoint=folder / "last.pt",
            generalist=generalist(prompt="uncertainty", num_prompts=2),
            num_workers=num_workers,
            generalist_weight=SigmoidRampdown(6, length=3, every=2),
        )
        if killed_at is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=killed_at), kill)
        trainer.run()
        return torch.load(folder / "last.pt", weights_only=True), trainer

    straight, trainer = run(tmp_path / "straight")
    assert len(set(trainer.history)) == 6
    for killed_at in (1, 3, 4, 5):
        with pytest.raises(Killed):
            run(tmp_path / f"{killed_at}", killed_at)
        resumed, rest = run(tmp_path / f"{killed_at}")
        assert all(same(straight[name], resumed[name]) for name in ("network", "teacher") if name in straight)
        assert rest.history == trainer.history[(killed_at - 1) // 2 * 2 :]
        if "discriminator" in straight:
            assert same(straight["discriminator"], resumed["discriminator"])


def write_case(folder, name, seed):
    image, mask = ball(seed)
    paths = {"image": folder / f"{name}_image.nii.gz", "label": folder / f"{name}_mask.nii.gz"}
    write_nifti(image, np.eye(4), paths["image"])
    write_nifti(mask, np.eye(4), paths["label"])
    return {"case": name, **{key: str(path) for key, path in paths.items()}}


@pytest.mark.parametrize("kind", TRAINERS)
def test_defect_1_masks_of_unlabelled_cases_are_never_opened(kind, tmp_path):
    cases = [write_case(tmp_path, name, seed) for seed, name in enumerate("abcde")]

    def run():
        data = semi_supervised_items(cases, ["b"])
        keys = ("image", "label")
        load = Compose([LoadImaged(keys, allow_missing_keys=True), EnsureChannelFirstd(keys, allow_missing_keys=True)])
        trainer = trainer_of(kind, specialist(), data, epochs=2, transform=load, generalist=generalist())
        torch.manual_seed(3)
        trainer.run()
        return trainer.history, trainer.network.state_dict()

    history, weights = run()
    poisoned = [case for case in cases if case["case"] != "b"]
    for spoil in (lambda path: path.write_bytes(b"garbage"), lambda path: path.unlink()):
        for case in poisoned:
            spoil(tmp_path / f"{case['case']}_mask.nii.gz")
        again, same_weights = run()
        assert again == history and len(set(again)) == 4 and same(weights, same_weights)


def test_defect_2_the_generalist_teaches_on_unlabelled_items_and_on_no_others():
    network = specialist()
    trainer = trainer_of(
        SemiSupervisedTrainer, network, streams=(2, 2), num_batches=1, generalist=generalist(tiny_generalist())
    )
    trainer.supervised_loss = lambda logits, label: 0 * logits.sum()
    trainer.add_event_handler(
        IterationEvents.FORWARD_COMPLETED, lambda engine: engine.state.output["pred"].retain_grad()
    )
    trainer.run()
    gradient = trainer.state.output["pred"].grad
    assert gradient[:2].eq(0).all() and gradient[2:].flatten(1).ne(0).any(1).all()
    assert sum(float(parameter.grad.abs().sum()) for parameter in network.parameters()) > 0


def test_defect_7_training_goes_on_when_nothing_is_predicted():
    network = specialist()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias") and parameter.shape == (2,):
                parameter.copy_(torch.tensor([50.0, -50.0]))
    recorder = Recorder()
    trainer = trainer_of(SemiSupervisedTrainer, network, num_batches=2, lr=1e-6, generalist=generalist(recorder))
    trainer.run()
    assert trainer.state.output["pred"].argmax(1).eq(0).all()
    assert recorder.asked == [] and trainer.state.output["generalist_loss"] == 0
    assert len(trainer.history) == 2 and np.isfinite(trainer.history).all()


def test_defect_8_nothing_is_read_or_computed_in_vain(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(torch, "load", kill)
    trainer = trainer_of(
        MeanTeacherTrainer,
        specialist(),
        num_batches=4,
        generalist=generalist(recorder),
        generalist_weight=lambda t: float(t < 3),
        consistency_weight=lambda t: float(t > 0),
    )
    passes = []
    trainer.teacher.register_forward_hook(lambda module, args, output: passes.append(len(args[0])))
    trainer.run()
    assert [len(volume) for volume in recorder.encoded] == [3, 3, 3]  # unlabelled ones only, once an iteration
    assert passes == [3, 3, 3]
    names = trainer.network.state_dict().keys() | trainer.teacher.state_dict().keys()
    assert not any("prompter" in name for name in names)


def test_the_generalists_weight_falls_over_the_whole_training_unless_given():
    trainer = trainer_of(SemiSupervisedTrainer, specialist(), epochs=7, num_batches=3, generalist=generalist())
    schedule, _ = trainer.unlabelled_losses["generalist"]
    assert schedule == SigmoidRampdown(21)


def test_uncertainty_of_the_generalist_reaches_the_loss():
    network = specialist()
    trainer = trainer_of(
        SemiSupervisedTrainer, network, num_batches=1, generalist=generalist(tiny_generalist(), prompt="uncertainty")
    )
    seen = []
    trainer.generalist.register_forward_hook(lambda module, args, output: seen.append(output))
    trainer.run()
    (answer,) = seen
    assert answer.weight.unique().numel() > 2
    expected = GeneralistLoss()(trainer.state.output["pred"][1:], *answer)
    torch.testing.assert_close(trainer.state.output["generalist_loss"], expected.detach())


@pytest.mark.parametrize("kind", TRAINERS)
def test_several_classes(kind):
    data = items()
    for item in data[:2]:
        item["label"] = item["label"] * (1 + (torch.arange(16) > 7)).to(item["label"])  # 1 and 2
    torch.manual_seed(0)
    network = UNet(3, 1, 3, channels=(4, 8), strides=(2,), norm="batch")
    helper = generalist(tiny_generalist(), prompt="mask")
    trainer = trainer_of(
        kind, network, data, num_batches=2, generalist=helper, generalist_weight=lambda t: 1.0, classes=3
    )
    trainer.run()
    assert trainer.state.output["pred"].shape[1] == 3 and np.isfinite(trainer.history).all()


def test_workers_change_nothing():
    runs = []
    for num_workers in (0, 1):
        network = specialist(dropout=0.0)
        trainer_of(SemiSupervisedTrainer, network, num_batches=2, num_workers=num_workers, epochs=2).run()
        runs.append(network.state_dict())
    assert same(*runs)


def test_batches_and_settings_that_cannot_be_are_refused():
    trainer = trainer_of(SemiSupervisedTrainer, specialist())
    with pytest.raises(ValueError, match="batch: 'label' is missing .*use a TwoStreamSampler"):
        trainer.prepare_batch({"image": torch.zeros(2, 1, 4, 4, 4)}, "cpu")
    with pytest.raises(ValueError, match="1 to 1, but got 2; use a TwoStreamSampler"):
        trainer.prepare_batch({"image": torch.zeros(1, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4)}, "cpu")
    with pytest.raises(ValueError, match="noise: expected 0 or more, but got -1"):
        trainer_of(MeanTeacherTrainer, specialist(), noise=-1)
    with pytest.raises(ValueError, match="num_passes: expected at least 1, but got 0"):
        trainer_of(UncertaintyAwareMeanTeacherTrainer, specialist(), num_passes=0)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("amp", [False, True])
def test_it_trains_on_a_gpu(kind, amp):
    helper = generalist(tiny_generalist().cuda(), prompt="uncertainty")
    trainer = trainer_of(
        kind, specialist("cuda"), epochs=5, device="cuda", amp=amp, generalist=helper, generalist_weight=lambda t: 0.1
    )
    trainer.run()
    assert len(trainer.history) == 10 and np.isfinite(trainer.history).all()
    assert trainer.history[-1] < trainer.history[0]


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("kind", TRAINERS)
@pytest.mark.parametrize("amp", [False, True])
def test_a_killed_training_on_a_gpu_ends_with_the_same_weights_and_scale(kind, amp, tmp_path):
    def run(folder, killed_at=None):
        trainer = trainer_of(
            kind,
            specialist("cuda"),
            epochs=3,
            num_batches=4,
            checkpoint=folder / "last.pt",
            generalist=generalist(tiny_generalist().cuda(), prompt="uncertainty"),
            generalist_weight=lambda t: 0.1,
            device="cuda",
            amp=amp,
        )
        if killed_at is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=killed_at), kill)
        trainer.run()
        return torch.load(folder / "last.pt", weights_only=True, map_location="cpu")

    straight = run(tmp_path / "straight")
    with pytest.raises(Killed):
        run(tmp_path / "cut", 6)
    resumed = run(tmp_path / "cut")
    assert resumed.get("grad_scaler") == straight.get("grad_scaler") and ("grad_scaler" in straight) == amp
    for name in {"network", "teacher", "discriminator"} & set(straight):
        assert same(straight[name], resumed[name])


@pytest.mark.gpu
@NO_GPU
def test_the_teachers_noise_and_average_stay_on_the_gpu():
    trainer = trainer_of(UncertaintyAwareMeanTeacherTrainer, specialist("cuda"), num_batches=3, device="cuda", amp=True)
    seen = []
    trainer.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    trainer.run()
    assert len(seen) == 27 and all(image.is_cuda for image in seen)
    assert not torch.equal(seen[0], seen[1])  # each pass has its own noise
    assert all(p.is_cuda for p in trainer.teacher.parameters()) and int(trainer.teacher.n_averaged) == 3
