"""Limit the norm of the gradient of a MONAI trainer."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn
from torch.nn.utils import clip_grad_norm_

from .accumulation import steps_now

__all__ = ["GradientClipping"]


class GradientClipping:
    """Scale the gradient of a network down to a norm before each step of the optimiser.

    Args:
        network: whose gradient is limited.
        max_norm: largest Euclidean norm over all parameters.

    Raises:
        ValueError: when `max_norm` is not positive.
    """

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        if max_norm <= 0:
            raise ValueError(f"max_norm: expected a positive number, but got {max_norm}.")
        self.network = network
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Clip after the backward passes of a trainer that a step of the optimiser follows."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clip, after removing the scale that mixed precision puts on gradients, which can be done once a step."""
        if not steps_now(engine):
            return
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        clip_grad_norm_(self.network.parameters(), self.max_norm)
