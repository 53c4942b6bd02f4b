"""One way to ask any promptable network, in two or three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SINGLE_CLICK_MASKS", "Prompter", "check_single_click_mask", "resize_masks", "select_masks"]

SINGLE = "single"
SINGLE_CLICK_MASKS = (None, 0, 1, 2, SINGLE)  # which mask answers a single click, see `Prompter.answer_single_click`


def check_single_click_mask(single_click_mask: int | str | None) -> int | str | None:
    """Return the choice, one of `SINGLE_CLICK_MASKS`.

    Raises:
        ValueError: when there is no such mask.
    """
    if single_click_mask not in SINGLE_CLICK_MASKS:
        raise ValueError(f"single_click_mask: expected 0, 1, 2, 'single' or None, but got {single_click_mask!r}.")
    return single_click_mask


def select_masks(masks: Tensor, index: Tensor) -> Tensor:
    """One of M masks (B, Q, M, *grid) for every prompt set, (B, Q, 1, *grid), by its number (B, Q)."""
    ones = (1,) * (masks.ndim - 2)
    return masks.gather(2, index.reshape(*index.shape, *ones).expand(-1, -1, 1, *masks.shape[3:]))


def resize_masks(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize logits (N, M, *grid) linearly to (N, M, *size), in single precision."""
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return F.interpolate(logits.float(), tuple(size), mode=mode, align_corners=False)


class Prompter(nn.Module):
    """Ask a promptable network: points in array index order, Q prompt sets on each image or volume.

    Args:
        network: for example `EfficientSAM` or `SAMMed3D`, see `PromptableNetwork`. Its `spatial_dims`,
            `takes_background_clicks`, `takes_masks` and `mask_scale` (4 unless it has one) become attributes.
    """

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.spatial_dims: int = network.spatial_dims
        self.takes_background_clicks: bool = network.takes_background_clicks
        self.takes_masks: bool = network.takes_masks
        self.mask_scale: int = getattr(network, "mask_scale", 4)

    def encode(self, image: Tensor) -> Tensor:
        """Embed images (B, 1 or 3, H, W) or volumes (B, 1, D, H, W), (B, P, *tokens)."""
        return self.network.encode(image)[1] if self.spatial_dims == 2 else self.network.encode(image)

    def cell_features(self, embedding: Tensor) -> Tensor:
        """Features of every cell of the masks before any prompt, (B, C, *grid), from the embedding of `encode`."""
        return self.network.cell_features(embedding)

    def answer(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer Q prompt sets on every image.

        Args:
            embedding: (B, P, *tokens) from `encode`.
            points: (B, Q, N, 2 or 3) in array index order, in pixels or voxels of the network's input.
            point_labels: (B, Q, N), 1 object, 0 background, -1 padding.
            multimask: ask for three masks of an ambiguous prompt instead of one.
            mask_logits: logits of the last answer, (B, Q, 1, *grid).

        Returns:
            mask logits (B, Q, M, *grid) and predicted IoU (B, Q, M), M = 3 or 1.

        Raises:
            ValueError: when the network takes no mask prompts but gets some, or when shapes or values do not fit.
        """
        if mask_logits is not None and not self.takes_masks:
            raise ValueError(f"mask_logits: {type(self.network).__name__} takes no mask prompts; leave them out.")
        points = points.float()
        if self.spatial_dims == 2:
            earlier_2d = {} if mask_logits is None else {"mask_logits": mask_logits}
            return self.network.decode(embedding, points.flip(-1), point_labels, multimask, **earlier_2d)
        if getattr(self.network, "takes_prompt_sets", False):
            return self.network.decode(embedding, points, point_labels, multimask, mask_logits)
        batch = points.shape[:2]
        repeated = embedding.repeat_interleave(batch[1], dim=0)
        earlier = None if mask_logits is None else mask_logits.flatten(0, 1)
        answers = self.network.decode(
            repeated, points.flatten(0, 1), point_labels.flatten(0, 1), mask_logits=earlier, multimask=multimask
        )
        masks, iou = (x.unflatten(0, batch) for x in answers)
        return masks, iou

    def answer_single_click(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        single_click_mask: int | str | None = None,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer an ambiguous prompt, such as a single click, by one mask.

        Args:
            embedding: see `answer`.
            points: see `answer`.
            point_labels: see `answer`.
            single_click_mask: which mask. 0 to 2: that one of the three for ambiguous prompts; None: the one of them
                with the highest predicted IoU; "single": the mask for unambiguous prompts.
            mask_logits: see `answer`.

        Returns:
            mask logits (B, Q, 1, *grid) and predicted IoU (B, Q, 1).
        """
        masks, iou = self.answer(embedding, points, point_labels, single_click_mask != SINGLE, mask_logits)
        if single_click_mask == SINGLE:
            return masks, iou
        best = iou.argmax(2)
        if isinstance(single_click_mask, int):
            best = torch.full_like(best, single_click_mask)
        return select_masks(masks, best), select_masks(iou, best)
