"""Averaged weights beside the ones that are trained."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import nn

from ..networks import MeanTeacher
from .accumulation import steps_now

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """Average a network's weights during training, for prediction; see `MeanTeacher`.

    To survive being killed, give the handler to `ResumableEpochs` as one of its objects, and `network` as its
    `final_network` if the average is what later stages use. Build it when the network is on its device.

    Args:
        network: that is trained, not wrapped for several GPUs.
        decay: of the average in the long run, in 0..1.
        warmup: see `MeanTeacher`; at 9 an early average covers about the last tenth of the steps so far.

    Raises:
        ValueError: when `decay` or `warmup` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999, warmup: float = 9.0) -> None:
        self.trained = network
        self.average = MeanTeacher(network, decay, warmup).eval()

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights."""
        return self.average.module

    def attach(self, engine: Engine) -> None:
        """Average after every step of a MONAI trainer's optimiser, before its other handlers look at the iteration."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self._after_iteration)

    def __call__(self, engine: Engine) -> None:
        """Average once."""
        self.average.update_parameters(self.trained)

    def _after_iteration(self, engine: Engine) -> None:
        if steps_now(engine):
            self(engine)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and the number of steps."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        self.average.load_state_dict(state_dict)
