"""Weights for a network when an engine starts."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from torch import nn

from ..networks import load_checkpoint

__all__ = ["WeightsLoader"]


class WeightsLoader:
    """Load a network's weights when an engine starts, strictly, as `load_checkpoint` does.

    MONAI's `CheckpointLoader` does the same for what fits; a file of another network it answers with the names of all
    tensors of both, this handler with one sentence.

    Args:
        network: where the weights go.
        path: the file; it is opened when the engine starts.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = path

    def attach(self, engine: Engine) -> None:
        """Load before an engine runs."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file is damaged or belongs to another network.
        """
        load_checkpoint(self.network, self.path)
        engine.logger.info("weights of %s", self.path)
