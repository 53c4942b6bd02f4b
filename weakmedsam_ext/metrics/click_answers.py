"""Answers to clicks: of a promptable network, or the superpixels under the clicks as a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..networks import Answerer, Prompter, check_single_click_mask

__all__ = ["ClickAnswerer", "NetworkAnswer", "SuperpixelAnswer"]


class ClickAnswerer(Answerer, Protocol):
    """An `Answerer` that looks at an item before its first click, for `evaluate_clicks`."""

    def start(self, item: Mapping[str, Any]) -> Any:
        """Look at an item of `SliceClickItems` or `VolumeClickItems`; the result is the `embedding` of `answer`.

        Points are in array index order, in pixels or voxels of the item; B is 1.
        """


class NetworkAnswer:
    """Answers of a promptable network in evaluation mode, without gradients, on the device of its weights.

    Args:
        network: see `Prompter`; its input has the size of the items.
        single_click_mask: which mask answers the first click, see `Prompter.answer_single_click`.

    Raises:
        ValueError: when there is no such mask.
    """

    def __init__(self, network: nn.Module, single_click_mask: int | str | None = None) -> None:
        self.prompter = Prompter(network)
        self.takes_background_clicks = self.prompter.takes_background_clicks
        self.takes_masks = self.prompter.takes_masks
        self.single_click_mask = check_single_click_mask(single_click_mask)

    @torch.no_grad()
    def start(self, item: Mapping[str, Any]) -> Tensor:
        """Embed the image of an item."""
        self.prompter.eval()
        return self.prompter.encode(item["image"].unsqueeze(0).to(self._device))

    @torch.no_grad()
    def answer(
        self, embedding: Tensor, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Answer by one mask, on the CPU, see `Answerer`."""
        prompts = points.to(self._device), point_labels.to(self._device)
        earlier = None if mask_logits is None else mask_logits.to(self._device)
        if multimask:
            logits, iou = self.prompter.answer_single_click(embedding, *prompts, self.single_click_mask, earlier)
        else:
            logits, iou = self.prompter.answer(embedding, *prompts, mask_logits=earlier)
        return logits.float().cpu(), iou.float().cpu()

    @property
    def _device(self) -> torch.device:
        return next(self.prompter.parameters()).device


class SuperpixelAnswer:
    """Baseline without a network: the regions under the object clicks; the last click in a region counts.

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
        self, embedding: Tensor, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Answerer`: the embedding are the regions of `start`, logits are 1 or -1, M is 1."""
        masks = torch.zeros((points.shape[1], *embedding.shape), dtype=torch.bool)
        for mask, clicks, labels in zip(masks, points[0], point_labels[0], strict=True):
            for click, label in zip(clicks.tolist(), labels.tolist(), strict=True):
                if label != -1:
                    mask[embedding == embedding[tuple(click)]] = label == 1
        return masks[None, :, None].float() * 2 - 1, torch.ones(1, len(masks), 1)
