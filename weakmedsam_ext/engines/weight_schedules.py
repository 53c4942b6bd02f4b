"""Weights of losses that rise or fall during training."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["SigmoidRampdown", "SigmoidRampup", "sigmoid_rampdown", "sigmoid_rampup"]


def sigmoid_rampup(step: float, length: float) -> float:
    """exp(-5 (1 - s)^2) with s = step / length, kept in 0..1 (Laine and Aila, ICLR 2017).

    Args:
        step: from 0; after `length` the value stays 1.
        length: steps until the value is 1; 0 means at once.

    Returns:
        exp(-5) = 0.0067 at step 0, 1 from step `length`.

    Raises:
        ValueError: when `length` is negative.
    """
    if length < 0:
        raise ValueError(f"length: expected 0 or more steps, but got {length}.")
    part = min(max(step / length, 0.0), 1.0) if length else 1.0
    return math.exp(-5 * (1 - part) ** 2)


def sigmoid_rampdown(step: float, num_steps: float, length: float) -> float:
    """`sigmoid_rampup` read from the end: 1 until `length` steps before `num_steps`, exp(-5) at `num_steps`.

    Args:
        step: from 0.
        num_steps: of the whole training.
        length: see `sigmoid_rampup`.

    Raises:
        ValueError: when `length` is negative.
    """
    return sigmoid_rampup(num_steps - step, length)


@dataclass(frozen=True)
class SigmoidRampup:
    """Weight that rises in steps: weight * sigmoid_rampup(t // every, length) at iteration t from 0.

    The defaults are those of the consistency of UA-MT (Yu et al., MICCAI 2019) and SemiSAM (Zhang et al., BIBM 2024).

    Args:
        weight: final value.
        length: steps until then; SemiSAM+ uses 200.
        every: iterations a step.

    Raises:
        ValueError: when `length` is negative or `every` below 1.
    """

    weight: float = 0.1
    length: float = 40
    every: int = 150

    def __post_init__(self) -> None:
        _check(self.length, self.every)

    def __call__(self, iteration: int) -> float:
        """Weight at an iteration."""
        return self.weight * sigmoid_rampup(iteration // self.every, self.length)


@dataclass(frozen=True)
class SigmoidRampdown:
    """Weight that falls in steps: weight * sigmoid_rampup((num_iterations - t) // every, length) at iteration t.

    The defaults are those of the generalist of SemiSAM (Zhang et al., BIBM 2024), which helps at the start only.

    Args:
        num_iterations: of the whole training, T.
        weight: initial value; SemiSAM+ uses 0.1.
        length: steps of the fall; SemiSAM+ uses 200.
        every: iterations a step.

    Raises:
        ValueError: when `length` is negative or `every` below 1.
    """

    num_iterations: int
    weight: float = 0.05
    length: float = 40
    every: int = 150

    def __post_init__(self) -> None:
        _check(self.length, self.every)

    def __call__(self, iteration: int) -> float:
        """Weight at an iteration."""
        return self.weight * sigmoid_rampup((self.num_iterations - iteration) // self.every, self.length)


def _check(length: float, every: int) -> None:
    if length < 0 or every < 1:
        raise ValueError(f"expected length >= 0 and every >= 1, but got length={length} and every={every}.")
