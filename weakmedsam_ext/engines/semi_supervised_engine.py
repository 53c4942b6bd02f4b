"""Training on a few labelled volumes and many without labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from monai.engines import SupervisedTrainer, default_prepare_batch
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data import TwoStreamSampler
from ..losses import GeneralistLoss
from .batches import explain_missing_keys, prepare_items, prepare_pair, tell_epochs
from .prompted_generalist import PromptedGeneralist
from .weight_schedules import SigmoidRampdown

__all__ = ["SemiSupervisedTrainer"]

Schedule = Callable[[int], float]
STREAMS = "use a TwoStreamSampler and collate_two_streams"


class SemiSupervisedTrainer(SupervisedTrainer):
    """MONAI's `SupervisedTrainer` for batches of which only the first items have labels.

    Batches hold "image" (B, C, *spatial) and "label" (L, 1, *spatial) with 1 <= L <= B, see `TwoStreamSampler` and
    `collate_two_streams`. The network sees all images in one pass. `loss_function` gets the labelled items; losses of
    subclasses and of the generalist get the others. Batches without unlabelled items (unlabelled_per_batch=0) make
    every trainer plain supervised training, the baseline of all methods.

    Mixed precision, accumulation and events are those of MONAI. The output has "image", "label", "pred" (logits of all
    items), "loss" and the parts of the loss before they are weighted: "supervised_loss" and, with unlabelled items,
    for example "consistency_loss" and "generalist_loss".

    Args:
        device: where training happens.
        max_epochs: number of epochs.
        train_data_loader: gives the batches; the epoch of its `TwoStreamSampler` is set.
        network: the specialist, maps (B, C, *spatial) to logits (B, K + 1, *spatial).
        optimizer: of its parameters.
        loss_function: called with logits and labels of the labelled items. SemiSAM's is MONAI's
            DiceCELoss(include_background=False, to_onehot_y=True, softmax=True), SemiSAM+ halves both parts by
            lambda_dice=0.5 and lambda_ce=0.5.
        generalist: supervises the unlabelled items; none unless given.
        generalist_weight: weight of its loss at every iteration from 0; `SigmoidRampdown` over the whole training
            unless given. The generalist is not run at 0.
        prepare_batch: gives image and label on the device.
        kwargs: of `SupervisedTrainer`, except for decollate: images and labels differ in number.

    Raises:
        ValueError: when the generalist's weight cannot be known because the loader has no length.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[[Tensor, Tensor], Tensor],
        generalist: PromptedGeneralist | None = None,
        generalist_weight: Schedule | None = None,
        prepare_batch: Callable = default_prepare_batch,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=optimizer,
            loss_function=self._total_loss,
            prepare_batch=partial(prepare_two_streams, prepare_batch),
            decollate=False,
            **kwargs,
        )
        self.supervised_loss = loss_function
        self.generalist = generalist
        self.generalist_loss = GeneralistLoss()
        # name -> weight at an iteration, and loss of images and logits of the unlabelled items
        self.unlabelled_losses: dict[str, tuple[Schedule, Callable[[Tensor, Tensor], Tensor]]] = {}
        if generalist is not None:
            schedule = generalist_weight or SigmoidRampdown(self.num_iterations)
            self.unlabelled_losses["generalist"] = (schedule, self._generalist_loss)
        sampler = getattr(train_data_loader, "batch_sampler", None)
        if isinstance(sampler, TwoStreamSampler):
            tell_epochs(self, sampler)

    def run(self) -> None:
        """Train.

        Raises:
            ValueError: when only some items have an image, or only some a label and no `TwoStreamSampler` sorts them.
        """
        prepare_items(self.data_loader)
        with explain_missing_keys("train_data_loader", STREAMS):
            super().run()

    @property
    def num_iterations(self) -> int:
        """Iterations of the whole training."""
        if self.state.epoch_length is None:
            raise ValueError("train_data_loader: expected one with a length, but it has none; give epoch_length.")
        return self.state.max_epochs * self.state.epoch_length

    @property
    def iteration(self) -> int:
        """Number of the iteration from 0, as the schedules count."""
        return max(self.state.iteration - 1, 0)

    def _total_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        count = len(label)
        parts = {"supervised": self.supervised_loss(logits[:count], label).mean()}
        image, others = self.state.output[Keys.IMAGE][count : len(logits)], logits[count:]
        return self._add_unlabelled_losses(parts["supervised"], parts, image, lambda: others)

    def _add_unlabelled_losses(
        self, total: Tensor, parts: dict[str, Tensor], image: Tensor, logits: Callable[[], Tensor]
    ) -> Tensor:
        """The total with the losses of unlabelled images; `logits`, of those, is called where a loss has a weight."""
        for name, (schedule, loss) in self.unlabelled_losses.items() if len(image) else ():
            weight = schedule(self.iteration)
            if weight:
                parts[name] = loss(image, logits())
                total = total + weight * parts[name]
        self.state.output.update({f"{name}_loss": part.detach() for name, part in parts.items()})
        return total

    def _generalist_loss(self, image: Tensor, logits: Tensor) -> Tensor:
        assert self.generalist is not None
        return self.generalist_loss(logits, *self.generalist(image, logits))


def prepare_two_streams(
    prepare_batch: Callable, batchdata: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Image and labels of its first items as plain tensors.

    Raises:
        ValueError: when there is no image or label, or more labels than images.
    """
    image, label = prepare_pair(
        prepare_batch, batchdata, device, non_blocking, f"label the first items, {STREAMS}", **kwargs
    )
    if not 1 <= len(label) <= len(image):
        raise ValueError(
            f"batch: expected labels of its first items, 1 to {len(image)}, but got {len(label)}; {STREAMS}."
        )
    return image, label
