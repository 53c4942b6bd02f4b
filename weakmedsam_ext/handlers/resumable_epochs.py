"""Checkpoints after every epoch from which a killed training goes on to the same result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from monai.utils import set_determinism
from torch import nn

from .weights_file import save_tensors, save_weights

__all__ = ["ResumableEpochs"]


class ResumableEpochs:
    """Save after every epoch, go on from the last one, and draw the random numbers of an epoch from its own seed.

    An epoch depends on the saved state, the seed and its number only: a run that is killed and started again ends with
    the same numbers as one that was not. For the order of samples use a `DistributedSampler` (num_replicas 1, rank 0
    without torchrun), to which MONAI's engines give the number of the epoch.

    Args:
        path: of the checkpoint; it replaces the one before.
        objects: what has a state: network, optimizer, lr_scheduler, ...
        seed: of epoch 0; epoch n uses seed + n.
        transform: random transforms of the training data set.
        settings: whatever the training depends on; a checkpoint of other settings, or of another number of processes
            or precision, is not continued.
        final_path: gets the state dict of objects["network"] when training is complete, bare, as MONAI's exports and
            the model zoo read it.
        keep: keep the checkpoint after training, so that a finished training is not repeated. Without, training starts
            anew when it is run again, as an annotation tool wants whose user has added labels.
        final_network: whose state goes to `final_path` instead, for example an average of objects["network"].
        deterministic: have cuDNN use algorithms that give the same result every time. Without, it tries several and
            takes the fastest: training on a GPU is faster, and equal runs differ by rounding.

    Raises:
        ValueError: when training starts and the checkpoint is damaged or has other settings.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        seed: int = 0,
        transform: Any = None,
        settings: Mapping[str, Any] | None = None,
        final_path: str | Path | None = None,
        keep: bool = True,
        final_network: nn.Module | None = None,
        deterministic: bool = True,
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.seed = seed
        self.transform = transform
        self.settings = dict(settings or {})
        self.final_path = final_path
        self.keep = keep
        self.final_network = final_network
        self.deterministic = deterministic

    def attach(self, engine: Engine) -> None:
        """Resume and save while a trainer runs."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.reseed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one."""
        if self.path.exists():
            state = self._read(engine)
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
        save_tensors({"epoch": engine.state.epoch, "settings": self._settings(engine), **states}, self.path)

    def finish(self, engine: Engine) -> None:
        """Save the trained network; of several processes the first one does."""
        if idist.get_rank() > 0:
            return
        if self.final_path is not None:
            network = self.objects["network"] if self.final_network is None else self.final_network
            save_weights(network, self.final_path)
        if not self.keep:
            self.path.unlink(missing_ok=True)

    def _seed(self, epoch: int) -> None:
        set_determinism(self.seed + epoch, use_deterministic_algorithms=None)
        if not self.deterministic:  # MONAI's function seeds and sets both
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(self.seed + epoch)

    def _settings(self, engine: Engine) -> dict[str, Any]:
        """The given ones, and the two that the engine knows: mixed precision and processes both change the state."""
        return {**self.settings, "amp": _has_scaler(engine), "processes": idist.get_world_size()}

    def _read(self, engine: Engine) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            missing = {"epoch", "settings", *self.objects} - set(state)
        except Exception as error:  # damaged files raise whatever zip, pickle or torch meet first
            raise ValueError(f"checkpoint {self.path} is damaged; delete it to train from the start.") from error
        settings = self._settings(engine)
        if missing or state["settings"] != settings:
            known = state["settings"] if "settings" in state else {}
            changed = sorted(name for name in {*settings, *known} if known.get(name) != settings.get(name))
            raise ValueError(
                f"checkpoint {self.path} was written with other settings ({', '.join(changed)}); delete it to train "
                "from the start, or give another output_dir."
            )
        return state


def _has_scaler(engine: Engine) -> bool:
    """Whether a MONAI trainer scales its loss for mixed precision; the scale is part of what it depends on."""
    return getattr(engine, "scaler", None) is not None
