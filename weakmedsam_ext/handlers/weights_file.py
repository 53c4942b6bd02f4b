"""Files of tensors that a handler writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data import atomic_path

__all__ = ["save_tensors", "save_weights"]


def save_tensors(content: Mapping[str, Any], path: str | Path) -> None:
    """Write what torch.load reads with weights_only, complete or not at all."""
    # into an open file: given a path, torch hides a full disk behind an error of its own
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the bare state dict of a network, be it wrapped for several GPUs or not."""
    bare = network.module if isinstance(network, DistributedDataParallel) else network
    save_tensors(bare.state_dict(), path)
