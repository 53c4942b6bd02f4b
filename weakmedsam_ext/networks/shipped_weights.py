"""Weights that are part of this package, checked by their hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from torch import nn

from .checkpoints import load_checkpoint

__all__ = ["SHIPPED", "load_shipped_weights"]

SHIPPED = Path(__file__).parent / "weights"  # NAME.safetensors, and NAME.json with its "sha256" and how it was trained


def load_shipped_weights(network: nn.Module, name: str) -> None:
    """Load the weights of a named network from this package.

    Args:
        network: where they go.
        name: of the network, see `build_network`.

    Raises:
        ValueError: when this package has none, when the file is not the one that was shipped, or does not fit the
            network.
    """
    path = SHIPPED / f"{name}.safetensors"
    card = path.with_suffix(".json")
    if not path.exists() or not card.exists():
        raise ValueError(
            f"weights {path}: this package has none for {name!r}, or they are incomplete; pass a checkpoint, or "
            "pretrained=False for random weights."
        )
    expected = json.loads(card.read_text())["sha256"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"weights {path}: expected SHA-256 {expected}, but got {found}; install this package again, or pass "
            "pretrained=False for random weights."
        )
    load_checkpoint(network, path)
