"""The weights that validated best, beside the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from .weights_file import save_weights

__all__ = ["BestWeights"]


class BestWeights:
    """Save a network's bare state dict whenever an evaluator's key metric is higher than ever before.

    Unlike MONAI's `CheckpointSaver`, what was best survives a restart: put this handler among the objects of
    `ResumableEpochs`, and that one behind the `ValidationHandler`.

    Args:
        network: whose weights are saved.
        path: of the file.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)
        self.best = -float("inf")

    def attach(self, engine: Engine) -> None:
        """Look at every validation of an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save the weights if they are the best ones so far; of several processes the first one does."""
        value = float(engine.state.metrics[engine.state.key_metric_name])  # type: ignore[attr-defined]
        if not value > self.best:
            return
        self.best = value
        if idist.get_rank() == 0:
            save_weights(self.network, self.path)

    def state_dict(self) -> dict[str, Any]:
        """What was best so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.best = state["best"]
