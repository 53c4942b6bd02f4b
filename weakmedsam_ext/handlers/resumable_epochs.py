"""Checkpoints after every epoch from which a killed training goes on to the same result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.transforms import Randomizable
from monai.utils import set_determinism

from ..data import atomic_path

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
        settings: whatever the training depends on; a checkpoint of other settings is not continued.
        final_path: gets {"model": state of objects["network"]} when training is complete.

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
    ) -> None:
        self.path = Path(path)
        self.objects = dict(objects)
        self.seed = seed
        self.transform = transform
        self.settings = dict(settings or {})
        self.final_path = final_path

    def attach(self, engine: Engine) -> None:
        """Resume and save while a trainer runs."""
        engine.add_event_handler(Events.STARTED, self.resume)
        engine.add_event_handler(Events.EPOCH_STARTED, self.reseed)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def resume(self, engine: Engine) -> None:
        """Load the checkpoint if there is one."""
        if self.path.exists():
            state = self._read()
            for name, item in self.objects.items():
                item.load_state_dict(state[name])
            engine.state.epoch = state["epoch"]
            engine.state.iteration = state["epoch"] * (engine.state.epoch_length or 0)
            engine.logger.info("continuing after epoch %d of %s", state["epoch"], self.path)
        # workers may be started before the first epoch is
        self._seed(engine.state.epoch + 1)

    def reseed(self, engine: Engine) -> None:
        """Seed the epoch that starts."""
        self._seed(engine.state.epoch)

    def save(self, engine: Engine) -> None:
        """Save the epoch that ends."""
        states = {name: item.state_dict() for name, item in self.objects.items()}
        with atomic_path(self.path) as temporary:
            torch.save({"epoch": engine.state.epoch, "settings": self.settings, **states}, temporary)

    def finish(self, engine: Engine) -> None:
        """Save the trained network."""
        if self.final_path is not None:
            with atomic_path(self.final_path) as temporary:
                torch.save({"model": self.objects["network"].state_dict()}, temporary)

    def _seed(self, epoch: int) -> None:
        set_determinism(self.seed + epoch, use_deterministic_algorithms=None)
        if isinstance(self.transform, Randomizable):
            self.transform.set_random_state(self.seed + epoch)

    def _read(self) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            missing = {"epoch", "settings", *self.objects} - set(state)
        except Exception as error:  # damaged files raise whatever zip, pickle or torch meet first
            raise ValueError(f"checkpoint {self.path} is damaged; delete it to train from the start.") from error
        if missing or state["settings"] != self.settings:
            raise ValueError(
                f"checkpoint {self.path} was written with other settings; delete it to train from the start, or give "
                "another output_dir."
            )
        return state
