from __future__ import annotations

import statistics

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, DistributedSampler, MetaTensor
from monai.engines import IterationEvents
from monai.transforms import Compose, RandFlipd

from weakmedsam_ext.engines import ClickRounds, PromptableTrainer
from weakmedsam_ext.handlers import ExponentialMovingAverage, GradientClipping, ResumableEpochs
from weakmedsam_ext.losses import PromptLoss, mask_iou
from weakmedsam_ext.networks import build_network

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def quarters(shift, size=32):
    """An image of four rectangles that meet beside the middle; scales: rectangles and halves."""
    fine = torch.zeros(size, size, dtype=torch.int32)
    row, column = size // 2 + 3 * shift, size // 2 - 3 * shift
    fine[:row, column:], fine[row:, :column], fine[row:, column:] = 1, 2, 3
    image = torch.tensor([0.1, 0.4, 0.7, 1.0])[fine.long()]
    return {"image": image[None], "label": torch.stack([fine, (fine >= 2).int()])}


ITEMS = [quarters(shift) for shift in (-1, 0, 1)]


def tiny(device="cpu", name="efficient_sam_tiny", **arguments):
    torch.manual_seed(0)
    return build_network(name, img_size=32, depth=1, **arguments).to(device)


def trainer_of(network, items=ITEMS, device="cpu", epochs=1, lr=1e-3, handlers=(), **arguments):
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    loader = DataLoader(Dataset(items), batch_size=3)
    history = []
    trainer = PromptableTrainer(
        device, epochs, loader, network, optimizer, train_handlers=[GradientClipping(network), *handlers], **arguments
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: history.append(engine.state.output["loss"].detach())
    )
    return trainer, history


@torch.no_grad()
def click_iou(network, num_clicks=32):
    """Mean over random clicks and scales of the IoU of the best of three masks, on the training images."""
    torch.manual_seed(1)
    image, regions = (torch.stack([item[key] for item in ITEMS]) for key in ("image", "label"))
    (answer,) = ClickRounds(network.eval(), num_clicks, 1, single_share=0)(image, regions).rounds
    fits = [mask_iou(answer.logits > 0, one.unsqueeze(2) > 0.5, 2).amax(2).mean() for one in answer.target.unbind(2)]
    return float(sum(fits) / len(fits))


@pytest.mark.slow
def test_it_learns_what_clicks_mean():
    network = tiny()
    before = click_iou(network)
    trainer, history = trainer_of(network, ITEMS * 60, lr=2e-3, num_rounds=2)
    trainer.run()
    assert len(history) == 60
    losses = [float(loss) for loss in history]
    assert statistics.median(losses[-10:]) < 0.85 * statistics.median(losses[:10])
    after = click_iou(network)
    assert after > 0.6 > before + 0.2


def test_the_same_seed_gives_the_same_training():
    runs = []
    for _ in range(2):
        network = tiny()
        trainer, history = trainer_of(network, ITEMS * 3, num_clicks=2)
        torch.manual_seed(5)
        trainer.run()
        runs.append((history, network.state_dict()))
    assert all(torch.equal(a, b) for a, b in zip(runs[0][0], runs[1][0], strict=True))
    assert all(torch.equal(value, runs[1][1][name]) for name, value in runs[0][1].items())
    assert len({float(loss) for loss in runs[0][0]}) == 3


def test_an_iteration_has_monais_events_and_output_and_the_mean_loss():
    network = tiny()
    trainer, history = trainer_of(
        network, [{k: MetaTensor(v) for k, v in item.items()} for item in ITEMS], num_clicks=4
    )
    fired = []
    for event in IterationEvents:
        trainer.add_event_handler(event, lambda engine, event=event: fired.append(event))
    trainer.run()
    assert fired == [
        IterationEvents.FORWARD_COMPLETED,
        IterationEvents.LOSS_COMPLETED,
        IterationEvents.BACKWARD_COMPLETED,
        IterationEvents.MODEL_COMPLETED,
    ]
    output = trainer.state.output
    assert set(output) == {"image", "label", "pred", "loss"} and len(output["pred"].rounds) == 4
    assert output["label"].shape == (3, 2, 32, 32) and not isinstance(output["pred"].rounds[0].logits, MetaTensor)
    expected = sum(n * PromptLoss()(*one) for n, one in zip((3, 1, 4, 4), output["pred"].rounds, strict=True)) / 12
    assert float(history[0]) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_the_loss_of_the_features_is_added():
    losses = {}
    for weight in (0.0, 1.0, 2.0):
        network = tiny()
        network.requires_grad_(False)  # so that all three see the same network
        network.prompt_encoder.requires_grad_(True)
        trainer, history = trainer_of(
            network, ITEMS, feature_loss=lambda features, _: features.square().mean(), feature_weight=weight
        )
        torch.manual_seed(2)
        trainer.run()
        losses[weight] = float(history[0])
    features = trainer.state.output["pred"].features
    assert features.shape == (3, 16, 16, 16)
    assert losses[1.0] - losses[0.0] == pytest.approx(float(features.square().mean()), rel=1e-4)
    assert losses[2.0] - losses[1.0] == pytest.approx(losses[1.0] - losses[0.0], rel=1e-4)


def test_images_without_regions_change_nothing():
    network = tiny()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    nothing = [{"image": item["image"], "label": torch.full_like(item["label"], -1)} for item in ITEMS]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    trainer = PromptableTrainer("cpu", 1, DataLoader(Dataset(nothing), batch_size=3), network, optimizer, num_clicks=2)
    trainer.run()
    assert trainer.state.output["loss"] == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Killed(Exception):
    pass


def train_with_average(path, killed_at=None):
    network = tiny()
    average = ExponentialMovingAverage(network, 0.9)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    transform = Compose([RandFlipd(("image", "label"), prob=0.5, spatial_axis=0)])
    dataset = Dataset(ITEMS, transform)
    sampler = DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=True)
    objects = {"network": network, "optimizer": optimizer, "average": average}
    checkpoints = ResumableEpochs(
        path / "last.pt", objects, 3, transform, final_path=path / "final.pt", final_network=average.network
    )
    trainer = PromptableTrainer(
        "cpu",
        3,
        DataLoader(dataset, batch_size=2, sampler=sampler),
        network,
        optimizer,
        num_clicks=2,
        num_rounds=2,
        train_handlers=[checkpoints, average],
    )
    if killed_at is not None:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=killed_at), kill)
    trainer.run()
    return network.state_dict(), torch.load(path / "final.pt", weights_only=True)


def kill(engine):
    raise Killed


@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_a_killed_training_ends_with_the_same_average(tmp_path, killed_at):
    straight, average = train_with_average(tmp_path / "straight")
    with pytest.raises(Killed):
        train_with_average(tmp_path / "cut", killed_at)
    resumed, resumed_average = train_with_average(tmp_path / "cut")
    assert straight.keys() == average.keys() == resumed_average.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    assert all(torch.equal(average[name], resumed_average[name]) for name in average)
    name = "mask_decoder.mask_tokens.weight"
    assert not torch.equal(straight[name], average[name])


def test_processes_share_their_gradients_and_handlers_see_the_bare_network(tmp_path):
    weights = []
    for distributed in (False, True):
        network = tiny()
        if distributed:
            torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
        try:
            trainer, _ = trainer_of(network, ITEMS * 2, num_clicks=2, num_rounds=2, distributed=distributed)
            torch.manual_seed(5)
            trainer.run()
        finally:
            if distributed:
                torch.distributed.destroy_process_group()
        weights.append(network.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(ValueError, match="network: expected the bare network, but got one that is wrapped"):
        trainer_of(wrapped(network, tmp_path))


def wrapped(network, path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{path}/wrapped", rank=0, world_size=1)
    try:
        return torch.nn.parallel.DistributedDataParallel(network)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("name", ["efficient_sam_tiny", "sam_med3d_tiny"])
def test_it_trains_on_a_gpu(name, amp):
    arguments = {"global_attn_indexes": (0,)} if name == "sam_med3d_tiny" else {}
    network = tiny("cuda", name, **arguments)
    items = ITEMS
    if network.spatial_dims == 3:
        items = [{key: value.unsqueeze(-1).repeat(1, 1, 1, 32) for key, value in item.items()} for item in ITEMS]
    # with mixed precision up to ten steps are skipped until the scale of the losses fits (seen on an H200)
    trainer, history = trainer_of(network, items * 25, "cuda", amp=amp)
    trainer.run()
    assert len(history) == 25 and all(loss.isfinite() for loss in history)
    assert float(history[-1]) < float(history[0])
