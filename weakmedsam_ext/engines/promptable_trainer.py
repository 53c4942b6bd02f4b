"""Training of promptable networks on regions or masks, by simulated clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from monai.engines import SupervisedTrainer, default_prepare_batch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..losses import PromptLoss
from ..networks import NextClick
from ..transforms import simulate_clicks
from .batches import explain_missing_keys, prepare_items, prepare_pair, tell_epochs
from .click_rounds import ClickRounds, Dialogues

__all__ = ["PromptableTrainer"]

REGIONS = "give region numbers of every image, from a RegionStore, or of masks by MaskRegionsd"


class PromptableTrainer(SupervisedTrainer):
    """MONAI's `SupervisedTrainer` for promptable networks: every iteration is a dialogue of `ClickRounds`.

    Batches hold "image" (B, C, *spatial) with intensities in 0..1 and "label", region numbers at L scales as integers
    (B, L, *spatial), negative where no click may be: regions found without labels, or masks of structures
    (`MaskRegionsd`). The mean loss over all answers, plus the loss of the features, is back-propagated once. One
    forward pass holds the whole dialogue, so mixed precision and events are MONAI's; "pred" in the output are the
    `Dialogues`.

    Give handlers, optimiser and checkpoints the network itself, with several GPUs too.

    Args:
        device: where training happens.
        max_epochs: number of epochs.
        train_data_loader: gives the batches; is told the epoch where it has `set_epoch`, as `SyntheticBatches` has.
        network: promptable network, see `Prompter`; not wrapped for several GPUs.
        optimizer: of its parameters.
        loss_function: called with the fields of a `ClickRound`; `PromptLoss()` unless given.
        feature_loss: called with the features of every cell and the regions, for example `RegionAffinityLoss`; none
            unless given.
        feature_weight: of the feature loss.
        num_clicks: see `ClickRounds`.
        num_rounds: see `ClickRounds`.
        single_share: see `ClickRounds`.
        first_clicks: see `ClickRounds`.
        distributed: average gradients over the processes of an initialised torch.distributed group.
        prepare_batch: gives image and regions on the device.
        next_click: see `ClickRounds`.
        kwargs: of `SupervisedTrainer`, except for decollate: rounds cannot be split into items.

    Raises:
        ValueError: when a setting is out of range, or the network is wrapped already.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        network: nn.Module,
        optimizer: Optimizer,
        loss_function: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
        feature_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        feature_weight: float = 1.0,
        num_clicks: int = 8,
        num_rounds: int = 3,
        single_share: float = 0.25,
        first_clicks: str = "places",
        distributed: bool = False,
        prepare_batch: Callable = default_prepare_batch,
        next_click: NextClick = simulate_clicks,
        **kwargs: Any,
    ) -> None:
        if isinstance(network, DistributedDataParallel):
            raise ValueError("network: expected the bare network, but got one that is wrapped; use distributed=True.")
        rounds: nn.Module = ClickRounds(
            network, num_clicks, num_rounds, single_share, first_clicks, feature_loss is not None, next_click
        )
        if distributed:
            # which parameters a dialogue needs depends on its clicks
            rounds = DistributedDataParallel(rounds, find_unused_parameters=True)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=rounds,
            optimizer=optimizer,
            loss_function=partial(_dialogue_loss, loss_function or PromptLoss(), feature_loss, feature_weight),
            prepare_batch=partial(prepare_dialogue, prepare_batch),
            decollate=False,
            **kwargs,
        )
        if hasattr(train_data_loader, "set_epoch"):
            tell_epochs(self, train_data_loader)

    def run(self) -> None:
        """Train; a data set with `prepare_items`, such as `SliceRegions`, does that first.

        Raises:
            ValueError: when only some items have an image, or only some regions.
        """
        prepare_items(self.data_loader)
        with explain_missing_keys("train_data_loader", REGIONS):
            super().run()


def prepare_dialogue(
    prepare_batch: Callable, batchdata: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor, tuple[Tensor], dict]:
    """Image, regions, and the regions again: `ClickRounds` is called with both.

    Raises:
        ValueError: when one of them is missing.
    """
    image, regions = prepare_pair(prepare_batch, batchdata, device, non_blocking, REGIONS, **kwargs)
    return image, regions, (regions,), {}


def _dialogue_loss(
    loss_function: Callable,
    feature_loss: Callable | None,
    feature_weight: float,
    dialogues: Dialogues,
    regions: Tensor,
) -> Tensor:
    """Mean loss over all answers (parts of a round weigh by their number of clicks) plus the loss of the features."""
    counts = [one.weight.shape[1] for one in dialogues.rounds]
    losses = [count * loss_function(*one) for count, one in zip(counts, dialogues.rounds, strict=True)]
    total = torch.stack(losses).sum() / sum(counts)
    return total if feature_loss is None else total + feature_weight * feature_loss(dialogues.features, regions)
