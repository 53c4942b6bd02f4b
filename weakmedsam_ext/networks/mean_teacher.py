"""The teacher of mean-teacher training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["MeanTeacher"]


class MeanTeacher(AveragedModel):
    """Exponential moving average of a network (Tarvainen and Valpola, NeurIPS 2017).

    Update t from 0 moves the weights by 1 - min(1 - 1 / (t + 1), decay) towards the student's: the first copies them,
    the next are plain means. Buffers are copied, none is shared; only `update_parameters` changes the weights. Its
    state belongs to the objects of `ResumableEpochs`.

    Args:
        network: the student, not wrapped for several GPUs; build the teacher when it is on its device.
        decay: of the average in the long run, in 0..1.

    Raises:
        ValueError: when `decay` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: expected a value in 0..1, but got {decay}.")
        super().__init__(network, multi_avg_fn=self._move)
        self.decay = decay
        self.requires_grad_(False)

    def _move(self, averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        # AveragedModel copies at the first update and calls this from the second, with num_averaged = 1. That is a copy
        # of `n_averaged` on the network's device, and reading it would wait for a GPU; the buffer itself is on the CPU.
        now = min(1 - 1 / (float(self.n_averaged) + 1), self.decay)
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)
