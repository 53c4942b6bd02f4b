"""Mean-teacher training: the teacher is the moving average of its student."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..handlers.accumulation import steps_now
from ..losses import ConsistencyLoss, UncertaintyConsistencyLoss
from ..networks import MeanTeacher
from .semi_supervised_engine import SemiSupervisedTrainer
from .weight_schedules import SigmoidRampup, sigmoid_rampup

__all__ = ["MeanTeacherTrainer", "UncertaintyAwareMeanTeacherTrainer"]


class TeacherTrainer(SemiSupervisedTrainer):
    """A `SemiSupervisedTrainer` whose teacher is updated after every step of the optimiser.

    Args:
        args: see `SemiSupervisedTrainer`.
        teacher: average of `network`.
        kwargs: see `SemiSupervisedTrainer`.
    """

    def __init__(self, *args: Any, teacher: MeanTeacher, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher = teacher
        self.add_event_handler(IterationEvents.MODEL_COMPLETED, self._update_teacher)

    def _update_teacher(self, engine: Engine) -> None:
        if steps_now(self):
            wrapped = isinstance(self.network, DistributedDataParallel)
            self.teacher.update_parameters(self.network.module if wrapped else self.network)


class MeanTeacherTrainer(TeacherTrainer):
    """Mean teacher (Tarvainen and Valpola, NeurIPS 2017): the student's prediction should equal its teacher's.

    The teacher sees the unlabelled images with noise, N(0, noise^2) clipped to two deviations, drawn by PyTorch's
    generator of the images' device. As published it stays in training mode, with dropout. It is updated after every
    optimiser step.

    Args:
        args: see `SemiSupervisedTrainer`.
        consistency_weight: weight of the consistency loss at every iteration from 0; the teacher is not run at 0.
        noise: standard deviation in units of the images, 0 or more. Published is 0.1 for images of mean 0 and deviation
            1 (Yu et al., MICCAI 2019).
        kwargs: see `SemiSupervisedTrainer`; also `teacher`, the average of `network`.

    Raises:
        ValueError: when `noise` is negative.
    """

    def __init__(
        self,
        *args: Any,
        consistency_weight: Callable[[int], float] | None = None,
        noise: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if noise < 0:
            raise ValueError(f"noise: expected 0 or more, but got {noise}.")
        super().__init__(*args, **kwargs)
        self.noise = noise
        self.unlabelled_losses["consistency"] = (consistency_weight or SigmoidRampup(), self._consistency_loss)

    def _consistency_loss(self, image: Tensor, logits: Tensor) -> Tensor:
        return ConsistencyLoss()(logits, self._teach(image))

    @torch.no_grad()
    def _teach(self, image: Tensor) -> Tensor:
        """Logits of the teacher for one noisy version of every image."""
        # drawn where the image is: nine passes over patches drawn on the CPU take longer than a GPU's whole iteration
        noise = self.noise * torch.randn(image.shape, device=image.device).clamp(-2, 2)
        return self.teacher.train()(image + noise.to(image))


class UncertaintyAwareMeanTeacherTrainer(MeanTeacherTrainer):
    """UA-MT (Yu et al., MICCAI 2019): consistency only where several noisy passes of the teacher agree.

    See `UncertaintyConsistencyLoss`; its threshold rises over the whole training.

    Args:
        args: see `MeanTeacherTrainer`.
        num_passes: noisy passes of the teacher, beside the one that the student is compared with.
        kwargs: see `MeanTeacherTrainer`.

    Raises:
        ValueError: when `num_passes` is below 1.
    """

    def __init__(self, *args: Any, num_passes: int = 8, **kwargs: Any) -> None:
        if num_passes < 1:
            raise ValueError(f"num_passes: expected at least 1, but got {num_passes}.")
        super().__init__(*args, **kwargs)
        self.num_passes = num_passes

    def _consistency_loss(self, image: Tensor, logits: Tensor) -> Tensor:
        taught = self._teach(image)
        mean = sum(self._teach(image).float().softmax(1) for _ in range(self.num_passes)) / self.num_passes
        ramp = sigmoid_rampup(self.iteration, self.num_iterations)
        return UncertaintyConsistencyLoss()(logits, taught, mean, ramp)
