"""Averaged weights beside the ones that are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage:
    """Exponential moving average of a network's weights; buffers are copied, none is shared.

    After step t (from 1) the average moves by 1 - min(decay, t / (9 + t)) towards the weights, so that a short training
    does not end with an average of its first steps. Step 1 copies the weights.

    To survive being killed, give the handler to `ResumableEpochs` as one of its objects, and `network` as its
    `final_network` if the average is what later stages use. Build it when the network is on its device.

    Args:
        network: that is trained, not wrapped for several GPUs.
        decay: of the average in the long run, in 0..1.

    Raises:
        ValueError: when `decay` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: expected a value in 0..1, but got {decay}.")
        self.decay = decay
        self.trained = network
        self.average = AveragedModel(network, multi_avg_fn=self._move).requires_grad_(False).eval()

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights."""
        return self.average.module

    def attach(self, engine: Engine) -> None:
        """Average after every iteration of a MONAI trainer, before its other handlers look at the iteration."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Average once."""
        self.average.update_parameters(self.trained)

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights and the number of steps."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        self.average.load_state_dict(state_dict)

    def _move(self, averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        step = float(num_averaged) + 1  # the first step only copies, so this is 2 or more
        get_ema_multi_avg_fn(min(self.decay, step / (9 + step)))(averaged, current, num_averaged)
