"""Boxes of voxels that are cut from one image and put into another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["paste", "random_box"]


def random_box(size: Sequence[int], sides: Sequence[int]) -> Tensor:
    """A box at a random place of an image, by PyTorch's generator: (1, *size), 1 inside."""
    box = torch.zeros(1, *size)
    starts = [int(torch.randint(length - side + 1, ())) for length, side in zip(size, sides, strict=True)]
    inside: tuple[Any, ...] = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    box[(..., *inside)] = 1
    return box


def paste(target: Tensor, source: Tensor, box: Tensor) -> Tensor:
    """Copies of the targets with the sources inside of a box."""
    return torch.where(box.bool(), source, target)
