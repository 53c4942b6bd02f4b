from __future__ import annotations

import json
from unittest.mock import patch

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.transforms import Compose, RandGaussianNoised

from weakmedsam_ext.bundle import RunKey
from weakmedsam_ext.handlers import ResumableEpochs


class Killed(Exception):
    pass


def train(path, epochs=4, killed_at=None, settings=None, num_workers=0, keep=True, every_epoch=False):
    """Train a small network with random order, noise and dropout; optionally die in the middle of an epoch."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    transform = Compose([RandGaussianNoised("image", prob=1.0)])
    data = [{"image": torch.full((3,), float(i)), "label": torch.tensor([float(i)])} for i in range(10)]
    dataset = Dataset(data, transform)
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True)
    loader = DataLoader(dataset, batch_size=3, sampler=sampler, num_workers=num_workers)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=4 * len(loader))
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    seen = []

    def loss(pred, target):
        seen.append(float((pred - target).square().mean()))
        if killed_at is not None and len(seen) > killed_at:
            raise Killed
        return (pred - target).square().mean()

    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        train_handlers=[
            ResumableEpochs(
                path / "last.pt",
                objects,
                7,
                transform,
                RunKey(path, settings),
                path / "models" / "final.pt",
                keep,
                final_every_epoch=every_epoch,
            ),
            LrScheduleHandler(scheduler, epoch_level=False, print_lr=False),
        ],
    )
    trainer.run()
    return network.state_dict(), seen


def equal(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("killed_at", [0, 2, 4, 9, 15])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, killed_at):
    straight, losses = train(tmp_path / "straight")
    assert len(losses) == 16
    with pytest.raises(Killed):
        train(tmp_path / "cut", killed_at=killed_at)
    assert not (tmp_path / "cut" / "models" / "final.pt").exists()
    resumed, rest = train(tmp_path / "cut")
    assert equal(straight, resumed)
    assert rest == losses[killed_at // 4 * 4 :]  # the epoch that was cut starts anew


def test_workers_of_the_loader_draw_the_same_numbers(tmp_path):
    straight, _ = train(tmp_path / "straight", num_workers=1)
    with pytest.raises(Killed):
        train(tmp_path / "cut", killed_at=9, num_workers=1)
    assert equal(straight, train(tmp_path / "cut", num_workers=1)[0])


def test_epochs_differ_and_finished_training_is_not_repeated(tmp_path):
    weights, losses = train(tmp_path)
    assert len(set(losses)) == 16
    again, none = train(tmp_path)
    assert none == [] and equal(weights, again)
    final = torch.load(tmp_path / "models" / "final.pt", weights_only=True)
    assert equal(final, weights) and final.keys() == weights.keys()


def test_without_keeping_its_checkpoint_a_killed_training_goes_on_and_a_finished_one_starts_anew(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, killed_at=9, keep=False)
    weights, rest = train(tmp_path, keep=False)
    assert len(rest) == 8 and not (tmp_path / "last.pt").exists()
    again, losses = train(tmp_path, keep=False, settings={"learning_rate": 0.02})
    assert len(losses) == 16 and equal(weights, again)


def test_the_weights_of_a_network_on_several_gpus_are_those_of_one(tmp_path):
    network = torch.nn.Linear(3, 2)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = torch.nn.parallel.DistributedDataParallel(network)
    finally:
        torch.distributed.destroy_process_group()
    ResumableEpochs(tmp_path / "last.pt", {"network": parallel}, final_path=tmp_path / "final.pt").finish(None)
    final = torch.load(tmp_path / "final.pt", weights_only=True)
    assert equal(final, network.state_dict()) and final.keys() == network.state_dict().keys()


def test_a_checkpoint_of_another_run_is_set_aside_and_training_starts_anew(tmp_path, caplog):
    caplog.set_level("WARNING")
    straight, losses = train(tmp_path / "straight", settings={"learning_rate": 0.02})
    with pytest.raises(Killed):
        train(tmp_path / "cut", killed_at=9, settings={"learning_rate": 0.01})
    anew, again = train(tmp_path / "cut", settings={"learning_rate": 0.02})
    assert again == losses and equal(anew, straight)
    assert "last.pt is of another run (learning_rate changed: 0.01 -> 0.02); training starts anew" in caplog.text
    assert (tmp_path / "cut" / "last.previous.pt").exists()


@pytest.mark.parametrize(
    ("function", "value", "reason"),
    [
        ("weakmedsam_ext.handlers.resumable_epochs._has_scaler", True, "amp changed: False -> True"),
        ("ignite.distributed.get_world_size", 2, "processes changed: 1 -> 2"),
    ],
)
def test_precision_and_processes_make_another_run(tmp_path, caplog, function, value, reason):
    train(tmp_path, epochs=1)
    ResumableEpochs.resume(handler := ResumableEpochs(tmp_path / "last.pt", {}), engine := Engine(lambda *_: None))
    engine.state.max_epochs = 1
    before = json.loads(torch.load(tmp_path / "last.previous.pt", weights_only=True)["record"])
    with patch(function, return_value=value):
        assert reason in handler._changes({**before, "run": {}}, engine)


def test_other_numbers_of_epochs_make_another_run(tmp_path, caplog):
    with pytest.raises(Killed):
        train(tmp_path, epochs=4, killed_at=9)
    _, losses = train(tmp_path, epochs=3)
    assert len(losses) == 12 and "epochs changed: 4 -> 3" in caplog.text


def test_weights_tell_what_they_were_made_from_and_earlier_ones_are_kept(tmp_path):
    first, _ = train(tmp_path, settings={"learning_rate": 0.01}, keep=False)
    record = json.loads((tmp_path / "models" / "final.json").read_text())
    assert record["settings"] == {"learning_rate": 0.01}
    second, _ = train(tmp_path, epochs=2, settings={"learning_rate": 0.02}, keep=False)
    models = [torch.load(tmp_path / "models" / name, weights_only=True) for name in ("final.previous.pt", "final.pt")]
    assert equal(models[0], first) and equal(models[1], second)
    assert json.loads((tmp_path / "models" / "final.previous.json").read_text()) == record


def test_earlier_weights_can_be_read_until_new_ones_replace_them(tmp_path):
    """A server answers from them meanwhile, and a kill in that moment leaves them with their own record."""
    first, _ = train(tmp_path, settings={"learning_rate": 0.01}, keep=False)
    models = tmp_path / "models"
    record = (models / "final.json").read_bytes()
    with patch("weakmedsam_ext.handlers.resumable_epochs.save_weights", side_effect=Killed), pytest.raises(Killed):
        train(tmp_path, epochs=2, settings={"learning_rate": 0.02}, keep=False)
    for name in ("final", "final.previous"):
        assert equal(torch.load(models / f"{name}.pt", weights_only=True), first)
        assert (models / f"{name}.json").read_bytes() == record
    second, _ = train(tmp_path, epochs=2, settings={"learning_rate": 0.02}, keep=False)
    assert equal(torch.load(models / "final.pt", weights_only=True), second) and not equal(first, second)
    assert equal(torch.load(models / "final.previous.pt", weights_only=True), first)
    assert (models / "final.json").read_bytes() != record


@pytest.mark.parametrize("every_epoch", [False, True])
def test_a_stopped_training_leaves_its_weights_if_asked(tmp_path, every_epoch):
    with pytest.raises(Killed):
        train(tmp_path, killed_at=9, every_epoch=every_epoch)
    assert (tmp_path / "models" / "final.pt").exists() == every_epoch


def test_damaged_files_are_refused(tmp_path):
    train(tmp_path)
    (tmp_path / "last.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match="last.pt is damaged; delete it to train from the start"):
        train(tmp_path)


@pytest.mark.parametrize("deterministic", [True, False])
def test_every_epoch_sets_which_algorithms_a_gpu_may_use(tmp_path, deterministic):
    backend = torch.backends.cudnn
    with backend.flags(deterministic=not deterministic, benchmark=deterministic):
        ResumableEpochs(tmp_path / "last.pt", {}, deterministic=deterministic).resume(
            Engine(lambda engine, batch: None)
        )
        assert (backend.deterministic, backend.benchmark) == (deterministic, not deterministic)
