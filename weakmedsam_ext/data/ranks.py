"""Share independent work between the processes that torchrun starts, on one machine or many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.distributed as dist

__all__ = ["device_of_rank", "gather_shares", "num_ranks", "rank", "share", "wait_for_ranks"]

T = TypeVar("T")


def rank() -> int:
    """Number of this process, 0 without torchrun."""
    return int(os.environ.get("RANK", 0))


def num_ranks() -> int:
    """Number of processes, 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def share(items: Sequence[T]) -> list[T]:
    """Every `num_ranks()`-th item; all ranks must have the same items, and together have each of them once."""
    return list(items[rank() :: num_ranks()])


def gather_shares(results: Sequence[T]) -> list[T]:
    """Results of all ranks in the order of the items; every rank gives those of its `share`, and gets all of them."""
    if num_ranks() == 1:
        return list(results)
    _connect()
    parts: list[list[T]] = [[] for _ in range(num_ranks())]
    dist.all_gather_object(parts, list(results))
    longest = max(map(len, parts))
    return [part[number] for number in range(longest) for part in parts if number < len(part)]


def device_of_rank() -> torch.device:
    """The GPU of this process on its machine; the CPU where there is none."""
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu")


def wait_for_ranks() -> None:
    """Return when every rank has come here."""
    if num_ranks() > 1:
        _connect()
        dist.barrier()


def _connect() -> None:
    """Connect the ranks, unless a config has done so, by gloo, which needs no GPU."""
    if not dist.is_initialized():
        dist.init_process_group(backend="gloo")
