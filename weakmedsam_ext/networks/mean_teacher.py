"""Averaged weights of a network that is trained: a mean teacher, or the weights to predict with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["MeanTeacher"]


class MeanTeacher(AveragedModel):
    """Exponential moving average of a network's weights (Tarvainen and Valpola, NeurIPS 2017).

    Update t, counted from 0, keeps the part min(1 - warmup / (t + warmup), decay) of the average and takes the rest
    from the student, so update 0 copies the student. Published is a warmup of 1, min(1 - 1 / (t + 1), decay): plain
    means at first. A larger warmup forgets the first steps sooner, as short trainings need.

    Parameters and buffers are copies, none is shared; only `update_parameters` changes them, and it copies the buffers.
    The state belongs to the objects of `ResumableEpochs`. `module` is the averaged network.

    Args:
        network: the student, not wrapped for several GPUs; build the teacher when it is on its device.
        decay: of the average in the long run, in 0..1.
        warmup: at least 1.

    Raises:
        ValueError: when `decay` or `warmup` is out of range.
    """

    def __init__(self, network: nn.Module, decay: float = 0.99, warmup: float = 1.0) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay: expected a value in 0..1, but got {decay}.")
        if warmup < 1:
            raise ValueError(f"warmup: expected at least 1, but got {warmup}.")
        super().__init__(network, multi_avg_fn=self._move)
        self.decay = decay
        self.warmup = warmup
        self.requires_grad_(False)

    def _move(self, averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        # AveragedModel copies at the first update and calls this from the second, with num_averaged = 1. That is a copy
        # of `n_averaged` on the network's device, and reading it would wait for a GPU; the buffer itself is on the CPU.
        now = min(1 - self.warmup / (float(self.n_averaged) + self.warmup), self.decay)
        get_ema_multi_avg_fn(now)(averaged, current, num_averaged)
