"""Train a ClickNet on synthetic images alone, as the weights in the package were.

    python benchmarks/synthetic_pretraining.py --dims 2 --minutes 7 --output runs/click_net_2d [--device cuda]

A training that is killed goes on from its last checkpoint, some hundred steps back, when the same command is run
again; `--minutes` is the time of training over all calls, and the learning rate follows it. With `--iterations` it
follows the number of steps instead. `--call_minutes` ends a call early. In the output folder: checkpoint.pt,
NAME.safetensors (16-bit averaged weights, written at every checkpoint) and NAME.json beside it: SHA-256, settings,
versions and a log.

On a GPU images are made there; bf16 is used for the networks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import fire
import torch
from common import machine
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines import IterationEvents
from safetensors.torch import save_file
from torch import nn

from weakmedsam_ext.bundle import RunKey
from weakmedsam_ext.data.synthetic import GENERATOR_VERSION, SyntheticBatches
from weakmedsam_ext.engines import PromptableEvaluator, PromptableTrainer, click_iou
from weakmedsam_ext.handlers import ExponentialMovingAverage, GradientClipping, ResumableEpochs
from weakmedsam_ext.losses import PromptLoss, RegionAffinityLoss
from weakmedsam_ext.networks import build_network
from weakmedsam_ext.transforms import simulate_clicks

SIDES = {2: (128, 96, 128, 160), 3: (32, 48, 32, 64)}
BATCH, CLICKS, ROUNDS = {2: 32, 3: 32}, {2: 8, 3: 6}, 4
MIN_SIZE = 40  # of regions that are clicked, in pixels
GROUP = 4  # batches that are made at once
VALIDATION_SEED = 1 << 20  # far from the seeds of training
WARM_UP, DECAY = 0.03, 0.5  # parts of the training in which the learning rate rises and falls


class TimedRate:
    """Learning rate that follows the time of training, or the number of steps, over all calls.

    It rises linearly, stays, and falls linearly to 1 % at the end.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, rate: float, minutes: float | None, iterations: int | None
    ) -> None:
        self.optimizer, self.rate = optimizer, rate
        self.minutes, self.iterations = minutes, iterations
        self.steps, self.earlier, self.started = 0, 0.0, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, earlier calls included."""
        return self.earlier + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        """Part of the training that is done, in 0..1."""
        done = self.steps / self.iterations if self.iterations else self.elapsed / (60 * (self.minutes or 1))
        return min(1.0, done)

    def __call__(self) -> None:
        """Set the rate of the next step."""
        factor = min(1.0, self.progress / WARM_UP + 1e-3, (1 - self.progress) / DECAY + 0.01)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * factor
        self.steps += 1

    def state_dict(self) -> dict[str, float]:
        """Steps and seconds so far."""
        return {"steps": self.steps, "elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from an earlier call."""
        self.steps, self.earlier, self.started = int(state["steps"]), state["elapsed"], time.monotonic()


class Log:
    """Rows of the log that a checkpoint keeps."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.losses: list[torch.Tensor] = []
        self.images = 0
        self.last = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier call."""
        self.rows, self.last = list(state["rows"]), time.monotonic()


def build_trainer(
    network: nn.Module, batches: SyntheticBatches, optimizer: torch.optim.Optimizer, num_clicks: int, num_rounds: int
) -> PromptableTrainer:
    """Trainer with the losses of the bundles, bf16 on a GPU."""
    cuda = batches.device.type == "cuda"
    return PromptableTrainer(
        device=batches.device,
        max_epochs=1 << 30,
        train_data_loader=batches,
        network=network,
        optimizer=optimizer,
        loss_function=PromptLoss(focal_weight=1.0, gamma=0.0),
        feature_loss=RegionAffinityLoss(num_pairs=2048),
        num_clicks=num_clicks,
        num_rounds=num_rounds,
        first_clicks="regions",
        next_click=partial(simulate_clicks, rule="inner"),
        epoch_length=len(batches),
        amp=cuda,
        amp_kwargs={"dtype": torch.bfloat16} if cuda else None,
    )


def validation_iou(network: nn.Module, size: tuple[int, ...], device: torch.device, batches: int) -> dict[str, float]:
    """IoU with regions of images that training never sees, after one, three and five clicks."""
    items = SyntheticBatches(8, [size], batches, VALIDATION_SEED, device, MIN_SIZE)
    metrics = {
        "iou_1": Average(lambda output: click_iou(output, 0)),
        "iou_3": Average(lambda output: click_iou(output, 2)),
        "iou_5": Average(lambda output: click_iou(output, 4)),
    }
    evaluator = PromptableEvaluator(
        device, items, network, num_clicks=4, num_rounds=5, first_clicks="regions", key_val_metric=metrics
    )
    evaluator.logger.setLevel(logging.ERROR)
    evaluator.run()
    return {name: round(float(evaluator.state.metrics[name]), 4) for name in metrics}


def write_weights(network: nn.Module, path: Path, card: dict[str, Any]) -> None:
    """Write 16-bit weights, and the card with their hash beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous().cpu() for name, value in network.state_dict().items()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest, **card}, indent=1) + "\n")


def main(
    dims: int = 2,
    minutes: float | None = None,
    iterations: int | None = None,
    output: str = "runs/click_net",
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    batch_size: int | None = None,
    sizes: Any = None,
    num_clicks: int | None = None,
    num_rounds: int = ROUNDS,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.01,
    ema_decay: float = 0.999,
    checkpoint_every: int = 100,
    validate_every: int = 8,
    validation_batches: int = 8,
    call_minutes: float | None = None,
    seed: int = 0,
) -> None:
    """Train.

    Args:
        dims: 2 or 3.
        minutes: of training over all calls.
        iterations: steps of training over all calls, instead of `minutes`.
        output: folder.
        device: where everything happens.
        batch_size: images a step, of the first size.
        sizes: sides in pixels of the images, which take turns, for example "[96,128]".
        num_clicks: first clicks an image.
        num_rounds: clicks of each dialogue.
        learning_rate: highest, of AdamW.
        weight_decay: of AdamW.
        ema_decay: of the averaged weights.
        checkpoint_every: steps.
        validate_every: checkpoints.
        validation_batches: of 8 images.
        call_minutes: end this call after so many minutes, at a checkpoint.
        seed: of everything.
    """
    if (minutes is None) == (iterations is None):
        raise ValueError("give either --minutes or --iterations.")
    sides = SIDES[dims] if sizes is None else sizes if isinstance(sizes, list | tuple) else [sizes]
    sizes = [(int(side),) * dims for side in sides]
    folder, name, on = Path(output), f"click_net_{dims}d", torch.device(device)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = build_network(name, pretrained=False).to(on)
    batches = SyntheticBatches(batch_size or BATCH[dims], sizes, checkpoint_every, seed, on, MIN_SIZE, GROUP)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    rate, average, log = (
        TimedRate(optimizer, learning_rate, minutes, iterations),
        ExponentialMovingAverage(network, ema_decay),
        Log(),
    )
    clicks = num_clicks or CLICKS[dims]
    trainer = build_trainer(network, batches, optimizer, clicks, num_rounds)
    settings = {
        "dims": dims, "minutes": minutes, "iterations": iterations, "batch_size": batches.batch_size,
        "sizes": [list(size) for size in sizes], "num_clicks": clicks, "num_rounds": num_rounds,
        "learning_rate": learning_rate, "weight_decay": weight_decay, "ema_decay": ema_decay, "seed": seed,
        "min_size": MIN_SIZE, "checkpoint_every": checkpoint_every, "generator_version": GENERATOR_VERSION,
    }  # fmt: skip
    where, call_start = machine(), time.monotonic()

    def finish_epoch(engine: Engine) -> None:
        now = time.monotonic()
        losses = torch.stack(log.losses).float().mean().item()
        row = {
            "step": rate.steps, "seconds": round(rate.elapsed, 1), "loss": round(losses, 4),
            "steps_per_second": round(len(log.losses) / (now - log.last), 3),
            "learning_rate": optimizer.param_groups[0]["lr"],
        }  # fmt: skip
        log.losses.clear()
        done = rate.progress >= 1
        if done or engine.state.epoch % validate_every == 0:
            row |= validation_iou(average.network, sizes[0], on, validation_batches)
        log.rows.append(row)
        print(json.dumps(row), flush=True)
        write_weights(average.network, folder / f"{name}.safetensors", {**settings, **where, "log": log.rows})
        log.last = time.monotonic()
        if done or (call_minutes is not None and now - call_start > 60 * call_minutes):
            engine.terminate()

    def prefer_speed(engine: Engine) -> None:
        # seeding an epoch asks cuDNN for its slower algorithms; trying all for every shape takes minutes
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False

    average.attach(trainer)
    GradientClipping(network, 1.0).attach(trainer)
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: rate())
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda engine: log.losses.append(engine.state.output["loss"].detach())
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, finish_epoch)
    objects = {"network": network, "optimizer": optimizer, "rate": rate, "average": average, "log": log}
    # kept: a call that --call_minutes ends is not the end of the training
    key = RunKey(folder, settings)
    ResumableEpochs(folder / "checkpoint.pt", objects, seed, run_key=key, keep=True).attach(trainer)
    trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate() if rate.progress >= 1 else None)
    trainer.add_event_handler(Events.EPOCH_STARTED, prefer_speed)
    trainer.run()


if __name__ == "__main__":
    fire.Fire(main)
