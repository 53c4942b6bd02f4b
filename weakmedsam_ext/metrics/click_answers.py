"""Who answers clicks: a promptable network, or the superpixels under the clicks as a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..networks import Prompter, check_first_mask

__all__ = ["ClickAnswerer", "NetworkAnswer", "SuperpixelAnswer"]


class ClickAnswerer(Protocol):
    """What `evaluate_clicks` asks."""

    @property
    def takes_background_clicks(self) -> bool:
        """Whether points may be labelled 0."""

    @property
    def takes_masks(self) -> bool:
        """Whether an earlier answer may be given as mask prompt."""

    def start(self, item: Mapping[str, Any]) -> Any:
        """Look at an item once, before its first click; gets what `SliceClickItems` and `VolumeClickItems` give."""

    def answer(
        self, started: Any, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Answer Q prompt sets on one item.

        Args:
            started: what `start` gave.
            points: (1, Q, N, 2 or 3) in array index order, in pixels or voxels of the item.
            point_labels: (1, Q, N), 1 object, 0 background, -1 padding.
            multimask: the prompts are ambiguous, several masks are welcome.
            mask_logits: logits of the last answer (1, Q, 1, *grid), for those who take masks.

        Returns:
            mask logits (1, Q, M, *grid) and predicted IoU (1, Q, M).
        """


class NetworkAnswer:
    """Answers of a promptable network in evaluation mode, without gradients, on the device of its weights.

    Args:
        network: see `Prompter`; its input has the size of the items.
        first_mask: what answers where several masks are welcome, see `Prompter.first_answer`.

    Raises:
        ValueError: when there is no such mask.
    """

    def __init__(self, network: nn.Module, first_mask: int | str | None = None) -> None:
        self.prompter = Prompter(network)
        self.first_mask = check_first_mask(first_mask)

    @property
    def takes_background_clicks(self) -> bool:
        """Whether points may be labelled 0."""
        return self.prompter.takes_background_clicks

    @property
    def takes_masks(self) -> bool:
        """Whether an earlier answer may be given as mask prompt."""
        return self.prompter.takes_masks

    @torch.no_grad()
    def start(self, item: Mapping[str, Any]) -> Tensor:
        """Embed the image of an item."""
        self.prompter.eval()
        return self.prompter.encode(item["image"].unsqueeze(0).to(self._device))

    @torch.no_grad()
    def answer(
        self, started: Tensor, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `ClickAnswerer`."""
        prompts = points.to(self._device), point_labels.to(self._device)
        earlier = None if mask_logits is None else mask_logits.to(self._device)
        if multimask:
            logits, iou = self.prompter.first_answer(started, *prompts, self.first_mask, earlier)
        else:
            logits, iou = self.prompter.answer(started, *prompts, mask_logits=earlier)
        return logits.float().cpu(), iou.float().cpu()

    @property
    def _device(self) -> torch.device:
        return next(self.prompter.parameters()).device


class SuperpixelAnswer:
    """Baseline without a network: the regions under the object clicks; the last click in a region decides about it.

    Args:
        level: of the hierarchy of regions, 0 is the finest.
    """

    takes_background_clicks = True
    takes_masks = False

    def __init__(self, level: int) -> None:
        self.level = level

    def start(self, item: Mapping[str, Any]) -> Tensor:
        """Regions (*spatial) of the level, of an item that has "regions" (L, *spatial)."""
        return item["regions"][self.level]

    def answer(
        self, started: Tensor, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `ClickAnswerer`: logits are 1 or -1, M is 1."""
        masks = torch.zeros((points.shape[1], *started.shape), dtype=torch.bool)
        for mask, clicks, labels in zip(masks, points[0], point_labels[0], strict=True):
            for click, label in zip(clicks.tolist(), labels.tolist(), strict=True):
                if label != -1:
                    mask[started == started[tuple(click)]] = label == 1
        return masks[None, :, None].float() * 2 - 1, torch.ones(1, len(masks), 1)
