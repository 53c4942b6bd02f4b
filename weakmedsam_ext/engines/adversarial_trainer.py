"""Adversarial training: a discriminator recognises segmentations of unlabelled images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from .semi_supervised_engine import SemiSupervisedTrainer
from .weight_schedules import SigmoidRampup

__all__ = ["AdversarialTrainer"]


class AdversarialTrainer(SemiSupervisedTrainer):
    """Deep adversarial network, DAN (Zhang et al., MICCAI 2017).

    The discriminator learns to tell segmentations of labelled volumes from those of unlabelled ones; the specialist
    learns to segment unlabelled volumes like labelled ones. Both use the predictions of one forward pass. The
    discriminator steps once an iteration with unlabelled items, in single precision; "discriminator_loss" is in the
    output. Give `ResumableEpochs` the discriminator and its optimiser too.

    Args:
        args: see `SemiSupervisedTrainer`.
        discriminator: called with images and softmaxes, gives logits (B, 1), see `MaskDiscriminator`.
        discriminator_optimizer: of its parameters; published is Adam with lr 1e-4 and betas (0.9, 0.99).
        adversarial_weight: weight of the specialist's adversarial loss at every iteration from 0.
        kwargs: see `SemiSupervisedTrainer`.

    Raises:
        ValueError: when there are several processes.
    """

    def __init__(
        self,
        *args: Any,
        discriminator: nn.Module,
        discriminator_optimizer: Optimizer,
        adversarial_weight: Callable[[int], float] | None = None,
        **kwargs: Any,
    ) -> None:
        if idist.get_world_size() > 1:
            raise ValueError("method 'adversarial': its discriminator is not shared by processes; leave out torchrun.")
        super().__init__(*args, **kwargs)
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.unlabelled_losses["adversarial"] = (adversarial_weight or SigmoidRampup(), self._adversarial_loss)
        # later events may replace "pred" in the output
        self.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._train_discriminator)

    def _adversarial_loss(self, image: Tensor, logits: Tensor) -> Tensor:
        self.discriminator.eval().requires_grad_(False)  # it is not trained by this loss
        verdict = self.discriminator(image, logits.softmax(1))
        self.discriminator.requires_grad_(True)
        return F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))

    def _train_discriminator(self, engine: Engine) -> None:
        image, logits = self.state.output[Keys.IMAGE], self.state.output[Keys.PRED].detach()
        count = len(self.state.output[Keys.LABEL])
        if count == len(image):
            return
        verdict = self.discriminator.train()(image.float(), logits.float().softmax(1))
        labelled = (torch.arange(len(image), device=verdict.device) < count).to(verdict)[:, None]
        loss = F.binary_cross_entropy_with_logits(verdict, labelled)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        self.state.output["discriminator_loss"] = loss.detach()
