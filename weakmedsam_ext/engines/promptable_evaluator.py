"""Validation of promptable networks on regions or masks, with the same clicks every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from monai.engines import SupervisedEvaluator, default_prepare_batch
from torch import Tensor, nn

from ..losses import mask_iou
from ..networks import NextClick
from ..transforms import simulate_clicks
from ..transforms.click_simulation import click_generator
from .batches import explain_missing_keys, prepare_items
from .click_rounds import ClickRounds
from .promptable_trainer import REGIONS, prepare_dialogue

__all__ = ["PromptableEvaluator", "click_iou"]


class PromptableEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator` for promptable networks: every iteration is a dialogue of `ClickRounds`.

    Batches are those of `PromptableTrainer`; "pred" in the output are the `Dialogues`, see `click_iou`. Every run draws
    from the seed and does not disturb the random numbers of a training. The clicks on an item with "case" and, of
    slices, "slice" depend on the seed and these alone; without "case" they depend on its place in the run.

    Args:
        device: where the network is.
        val_data_loader: gives the batches.
        network: promptable network, see `Prompter`.
        num_clicks: see `ClickRounds`.
        num_rounds: see `ClickRounds`.
        seed: of the clicks.
        first_clicks: see `ClickRounds`.
        prepare_batch: gives image and regions on the device.
        next_click: see `ClickRounds`.
        kwargs: of `SupervisedEvaluator`, except for decollate: rounds cannot be split into items.
    """

    def __init__(
        self,
        device: str | torch.device,
        val_data_loader: Iterable,
        network: nn.Module,
        num_clicks: int = 8,
        num_rounds: int = 3,
        seed: int = 0,
        first_clicks: str = "places",
        prepare_batch: Callable = default_prepare_batch,
        next_click: NextClick = simulate_clicks,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            device=torch.device(device),
            val_data_loader=val_data_loader,
            network=ClickRounds(network, num_clicks, num_rounds, 0.0, first_clicks, next_click=next_click),
            prepare_batch=partial(_prepare_with_clicks, prepare_batch, seed),
            decollate=False,
            **kwargs,
        )
        self.seed = seed

    def run(self, global_epoch: int = 1) -> None:
        """Validate once; a data set with `prepare_items`, such as `SliceRegions`, does that first.

        Raises:
            ValueError: when only some items have an image, or only some regions.
        """
        prepare_items(self.data_loader)
        with torch.random.fork_rng(devices=[]), explain_missing_keys("val_data_loader", REGIONS):
            torch.default_generator.manual_seed(self.seed)
            super().run(global_epoch)


def _prepare_with_clicks(
    prepare_batch: Callable, seed: int, batchdata: Any, device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor, tuple[Tensor], dict]:
    """See `prepare_dialogue`; also gives every item that names its case a generator of its own."""
    image, regions, inputs, options = prepare_dialogue(prepare_batch, batchdata, device, non_blocking, **kwargs)
    if isinstance(batchdata, Mapping) and "case" in batchdata:
        cases = batchdata["case"]
        slices = batchdata.get("slice", [0] * len(cases))
        options = {
            "generators": [click_generator(seed, str(case), int(n)) for case, n in zip(cases, slices, strict=True)]
        }
    return image, regions, inputs, options


def click_iou(output: Mapping[str, Any], click: int = -1) -> Tensor:
    """IoU of the answers with what was wanted, for `ignite.metrics.Average`.

    After the first click all possible targets count, each with the mask that fits it best.

    Args:
        output: of a `PromptableEvaluator`.
        click: index of the round; negative numbers count from the end.

    Returns:
        scalar, the mean over the prompts with a target; 0 without any.
    """
    logits, _, target, weight = output["pred"].rounds[click]
    found, wanted = (logits > 0).unsqueeze(3), (target > 0.5).unsqueeze(2)  # (B, Q, M, 1, *grid), (B, Q, 1, L, *grid)
    best = mask_iou(found, wanted, logits.ndim - 3).amax(2).mean(2)  # (B, Q)
    return (best * weight).sum() / weight.sum().clamp(min=1)
