"""Checkpoints after every epoch from which a killed training goes on to the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from monai.utils import set_determinism
from torch import nn

from ..bundle import RunKey
from ..data import read_json, set_aside, write_json
from .weights_file import save_tensors, save_weights

__all__ = ["ResumableEpochs"]

RANK_STEP = 1_000_003  # between the seeds of two processes; more than the epochs of any training


class ResumableEpochs:
    """Save after every epoch, go on from the last one, and draw the random numbers of an epoch from its own seed.

    An epoch depends on the saved state, the seed and its number only: a run that is killed and started again ends with
    the same numbers as one that was not. For the order of samples use a `DistributedSampler` (num_replicas 1, rank 0
    without torchrun), to which MONAI's engines give the number of the epoch.

    A checkpoint of another run, whose key differs, is set aside as `*.previous.pt`, and training starts anew. So are
    final weights of another run. Beside final weights stands what they were made from, in a JSON file.

    Args:
        path: of the checkpoint; it replaces the one before.
        objects: what has a state: network, optimizer, lr_scheduler, ...
        seed: of epoch 0; epoch n uses seed + n, and every further process seeds of its own.
        transform: random transforms of the training data set.
        run_key: of what the training depends on. Precision, number of processes and of epochs are added to it.
        final_path: gets the state dict of objects["network"] when training is complete, bare, as MONAI's exports and
            the model zoo read it.
        keep: keep the checkpoint after training, so that a finished training is not repeated. Without, training starts
            anew when it is run again, as an annotation tool wants whose user has added labels.
        final_network: whose state goes to `final_path` instead, for example an average of objects["network"].
        final_every_epoch: write `final_path` after every epoch, so that a training that is stopped for good has left
            its weights.
        deterministic: have cuDNN use algorithms that give the same result every time. Without, it tries several and
            takes the fastest: training on a GPU is faster, and equal runs differ by rounding.

    Raises:
        ValueError: when training starts and the checkpoint is damaged.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        seed: int = 0,
        transform: Any = None,
        run_key: RunKey | None = None,
        final_path: str | Path | None = None,
        keep: bool = False,
        final_network: nn.Module | None = None,
        final_every_epoch: bool = False,
        deterministic: bool = True,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.seed = seed
        self.transform = transform
        self.run_key = run_key
        self.final_path = None if final_path is None else Path(final_path)
        self.keep = keep
        self.final_network = final_network
        self.final_every_epoch = final_every_epoch
        self.deterministic = deterministic

    def attach(self, engine: Engine) -> None:
        """Resume and save while a trainer runs."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.reseed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one of this run."""
        state = self._read(engine) if self.path.exists() else None
        if state is not None:
            for name, item in self.objects.items():
                item.load_state_dict(state[name])
            if _has_scaler(engine):
                engine.scaler.load_state_dict(state["grad_scaler"])  # type: ignore[attr-defined]
            engine.state.epoch = state["epoch"]
            engine.state.iteration = state["epoch"] * (engine.state.epoch_length or 0)
            engine.logger.info("continuing after epoch %d of %s", state["epoch"], self.path)
        # workers may be started before the first epoch is
        self._seed(engine.state.epoch + 1)

    def reseed(self, engine: Engine) -> None:
        """Seed the epoch that starts."""
        self._seed(engine.state.epoch)

    def save(self, engine: Engine) -> None:
        """Save the epoch that ends; of several processes the first one does."""
        if idist.get_rank() > 0:
            return
        states: dict[str, Any] = {name: item.state_dict() for name, item in self.objects.items()}
        if _has_scaler(engine):
            states["grad_scaler"] = engine.scaler.state_dict()  # type: ignore[attr-defined]
        record = json.dumps(self._record(engine))
        save_tensors({"epoch": engine.state.epoch, "record": record, **states}, self.path)
        if self.final_every_epoch:
            self._save_final()

    def finish(self, engine: Engine) -> None:
        """Save the trained network; of several processes the first one does."""
        if idist.get_rank() > 0:
            return
        self._save_final()
        if not self.keep:
            self.path.unlink(missing_ok=True)

    def _save_final(self) -> None:
        if self.final_path is None:
            return
        network = self.objects["network"] if self.final_network is None else self.final_network
        record = self.final_path.with_suffix(".json")
        made_from = None if self.run_key is None else self.run_key.made_from
        if made_from is not None and self.final_path.exists():
            if not record.exists() or read_json(record, "delete it to train again") != made_from:
                # a server may answer from them in this moment, and a kill must not leave it without
                set_aside(self.final_path, keep=True)
        save_weights(network, self.final_path)
        if made_from is not None:
            # after the weights: other weights must never stand beside this record
            write_json(made_from, record)

    def _seed(self, epoch: int) -> None:
        # processes share the order of the samples, which the sampler draws, but not crops, flips, noise and clicks
        seed = self.seed + epoch + RANK_STEP * idist.get_rank()
        set_determinism(seed, use_deterministic_algorithms=None)
        if not self.deterministic:  # MONAI's function seeds and sets both
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(seed)

    def _record(self, engine: Engine) -> dict[str, Any]:
        """What the state depends on: the run's key, and what only the engine knows."""
        training = {"amp": _has_scaler(engine), "processes": idist.get_world_size(), "epochs": engine.state.max_epochs}
        return {"run": {} if self.run_key is None else self.run_key.record, "training": training}

    def _changes(self, earlier: dict[str, Any], engine: Engine) -> str:
        """What differs from an earlier record, in one line."""
        found = [] if self.run_key is None else [self.run_key.changes(earlier["run"])]
        for name, value in self._record(engine)["training"].items():
            before = earlier["training"].get(name)
            found += [f"{name} changed: {before} -> {value}"] if before != value else []
        return ", ".join(filter(None, found))

    def _read(self, engine: Engine) -> dict[str, Any] | None:
        """The checkpoint; None, after setting it aside, when it is of another run."""
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            changes = self._changes(json.loads(state["record"]), engine)
        except Exception as error:  # damaged files raise whatever zip, pickle or torch meet first
            raise ValueError(f"checkpoint {self.path} is damaged; delete it to train from the start.") from error
        if not changes and {"epoch", *self.objects} <= set(state):
            return state
        if idist.get_rank() == 0:
            engine.logger.warning("%s is of another run (%s); training starts anew", self.path, changes or "objects")
            set_aside(self.path)
        return None


def _has_scaler(engine: Engine) -> bool:
    """Whether a MONAI trainer scales its loss for mixed precision; the scale is part of what it depends on."""
    return getattr(engine, "scaler", None) is not None
