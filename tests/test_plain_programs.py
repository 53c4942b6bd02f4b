"""Each family of parts in a plain MONAI or Ignite program, without our bundles."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd, ScaleIntensityd

from weakmedsam_ext.engines import PromptableEvaluator, PromptableTrainer, click_iou
from weakmedsam_ext.handlers import ExponentialMovingAverage, GradientClipping, ResumableEpochs
from weakmedsam_ext.losses import ConsistencyLoss, SubclassLoss, subclass_target
from weakmedsam_ext.metrics import ReleasedSliceMetric, compute_volume_metrics
from weakmedsam_ext.networks import ThinVNet, WeakMedSAMNet, build_network
from weakmedsam_ext.transforms import ImageLevelLabeld, MaskRegionsd, SquarePadd


def squares(count=4, size=16):
    items = []
    for index in range(count):
        mask = torch.zeros(1, size, size)
        mask[:, 2 + index : 9 + index, 4:12] = 1
        items.append({"image": mask * 3 + torch.rand_like(mask), "label": mask})
    return items


def supervised(network, handlers=(), epochs=2, lr=0.05):
    optimizer = torch.optim.Adam(network.parameters(), lr)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    loader = DataLoader(Dataset(squares()), batch_size=2)
    return SupervisedTrainer("cpu", epochs, loader, network, optimizer, loss, train_handlers=list(handlers)), optimizer


def unet():
    return UNet(2, 1, 2, channels=(4, 8), strides=(2,))


def test_a_network_in_monais_inferer_and_optimiser():
    network = ThinVNet(channels=2, dropout=False).eval()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    volume = torch.rand(1, 1, 24, 16, 16)
    logits = SlidingWindowInferer(roi_size=(16, 16, 16), overlap=0.5)(volume, network)
    assert logits.shape == (1, 2, 24, 16, 16)
    before = logits.detach().square().mean()
    logits.square().mean().backward()
    optimizer.step()
    assert SlidingWindowInferer((16, 16, 16), overlap=0.5)(volume, network).square().mean() < before


def test_transforms_in_a_compose_and_a_loader():
    steps = [ScaleIntensityd("image"), RandFlipd(["image", "label"], 0.5, 1)]
    steps += [ImageLevelLabeld("label"), MaskRegionsd("label")]
    batch = next(iter(DataLoader(Dataset(squares(), Compose(steps)), batch_size=4)))
    assert batch["class_label"].shape == (4, 1) and batch["class_label"].eq(1).all()
    assert set(batch["label"].unique().tolist()) == {-1, 0} and batch["label"].eq(0).sum() == 4 * 56
    padded = SquarePadd("image")({"image": torch.ones(1, 10, 14, 3)})["image"]
    assert padded.shape == (1, 14, 14, 3)


def test_losses_in_a_loop_of_ones_own():
    torch.manual_seed(0)
    network = WeakMedSAMNet(build_network("efficient_sam_tiny", img_size=32, depth=1), 1, 2)
    loss, optimizer = SubclassLoss(1, 2), torch.optim.Adam(network.parameters(), 1e-3)
    image, target = torch.rand(2, 1, 32, 32), subclass_target(torch.tensor([[1], [0]]), 2)
    values = []
    for _ in range(4):
        values.append(loss(network(image), target))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < values[0]
    student, teacher = torch.zeros(1, 2, 4, 4, requires_grad=True), torch.ones(1, 2, 4, 4)
    teacher[:, 0] = -1
    ConsistencyLoss()(student, teacher).backward()
    assert (student.grad[:, 1] < 0).all() and (student.grad[:, 0] > 0).all()  # towards the teacher


def test_handlers_on_monais_trainer(tmp_path):
    torch.manual_seed(0)
    network = unet()
    average = ExponentialMovingAverage(network, 0.5)
    trainer, optimizer = supervised(network)
    objects = {"network": network, "optimizer": optimizer}
    for handler in (
        GradientClipping(network, 1.0),
        average,
        ResumableEpochs(tmp_path / "checkpoint.pt", objects, final_path=tmp_path / "model.pt", keep=True),
    ):
        handler.attach(trainer)
    trainer.run()
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
    assert trainer.state.iteration == 4
    first = next(iter(network.parameters()))
    assert not torch.equal(first, next(iter(average.network.parameters())))


def test_promptable_trainer_and_evaluator_with_plain_loaders():
    torch.manual_seed(0)
    network = build_network("efficient_sam_tiny", img_size=16, depth=1)
    data = Dataset(squares(), Compose([ScaleIntensityd("image"), MaskRegionsd("label")]))
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    before = [value.clone() for value in network.parameters()]
    PromptableTrainer("cpu", 2, DataLoader(data, batch_size=2), network, optimizer, num_clicks=2, num_rounds=2).run()
    assert any(not torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
    evaluator = PromptableEvaluator("cpu", DataLoader(data, batch_size=2), network, num_clicks=2, num_rounds=2)
    Average(click_iou).attach(evaluator, "iou")
    evaluator.run()
    assert 0 <= evaluator.state.metrics["iou"] <= 1


def test_metrics_in_an_ignite_engine():
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 2:6, 2:6] = 1
    dice = []

    def step(engine, shift):
        return compute_volume_metrics(masks.roll(shift, 2)[..., None], masks[..., None], (1, 1, 1))["dice"]

    engine = Engine(step)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: dice.append(float(e.state.output.mean())))
    engine.run([0, 2, 4])
    assert dice == pytest.approx([1.0, 0.5, 0.0])
    metric = ReleasedSliceMetric("dice")
    metric(y_pred=masks.roll(2, 2), y=masks)
    assert float(metric.aggregate()) == pytest.approx(0.5)
