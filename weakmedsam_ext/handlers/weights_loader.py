"""Weights for a network when an engine starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from ..bundle.run_key import plain
from ..data import read_json
from ..networks import load_checkpoint

__all__ = ["WeightsLoader", "check_made_from"]


class WeightsLoader:
    """Load a network's weights when an engine starts, strictly, as `load_checkpoint` does.

    On a mismatch this handler raises a one-line error instead of listing every tensor. Where the training has left what
    the weights were made from beside them, settings that both name must agree: a network that was trained at another
    spacing runs without an error, and finds nothing.

    Args:
        network: where the weights go.
        path: the file; it is opened when the engine starts.
        settings: name -> value of what the network and its input depend on.
    """

    def __init__(self, network: nn.Module, path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        self.network = network
        self.path = Path(path)
        self.settings = dict(settings or {})

    def attach(self, engine: Engine) -> None:
        """Load before an engine runs."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Load the weights.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file is damaged, belongs to another network, or was trained with other settings.
        """
        check_made_from(self.path, self.settings)
        load_checkpoint(self.network, self.path)
        engine.logger.info("weights of %s", self.path)


def check_made_from(path: Path, settings: Mapping[str, Any]) -> None:
    """Check settings against those that weights were trained with, if these are known.

    Raises:
        ValueError: when one differs.
    """
    record = path.with_suffix(".json")
    if not record.exists():
        return
    trained = read_json(record, "restore it, or delete it to use the weights with any settings").get("settings", {})
    for name, value in settings.items():
        # as text: the order of names is that of the network's channels
        if name in trained and json.dumps(plain(trained[name])) != json.dumps(plain(value)):
            one, other = (json.dumps(setting) for setting in (trained[name], value))
            raise ValueError(
                f"{path} was trained with {name} {one}, but this run has {other}; give --{name} {one}, or pack the "
                "weights with their settings: python -m weakmedsam_ext package --run."
            )
