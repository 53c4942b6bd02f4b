"""When a trainer that accumulates gradients takes a step."""

from __future__ import annotations

from ignite.engine import Engine

__all__ = ["steps_now"]


def steps_now(engine: Engine) -> bool:
    """Whether the optimiser steps in this iteration; MONAI accumulates gradients up to the end of an epoch."""
    steps = getattr(engine, "accumulation_steps", 1)  # monai < 1.6 does not accumulate
    length = engine.state.epoch_length
    number = engine.state.iteration - 1
    number = number % length if length else number
    return (number + 1) % steps == 0 or number + 1 == length
