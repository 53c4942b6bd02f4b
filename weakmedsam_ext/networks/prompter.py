"""One way to ask any promptable network, in two or three dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FIRST_MASKS", "Prompter", "check_first_mask", "select_masks"]

SINGLE = "single"
FIRST_MASKS = (None, 0, 1, 2, SINGLE)  # what may answer a click that may mean several things, see `first_answer`


def check_first_mask(first_mask: int | str | None) -> int | str | None:
    """Return the choice, one of `FIRST_MASKS`.

    Raises:
        ValueError: when there is no such mask.
    """
    if first_mask not in FIRST_MASKS:
        raise ValueError(f"first_mask: expected 0, 1, 2, 'single' or None, but got {first_mask!r}.")
    return first_mask


def select_masks(masks: Tensor, index: Tensor) -> Tensor:
    """One of M masks (B, Q, M, *grid) for every prompt, (B, Q, 1, *grid), by its number (B, Q)."""
    ones = (1,) * (masks.ndim - 2)
    return masks.gather(2, index.reshape(*index.shape, *ones).expand(-1, -1, 1, *masks.shape[3:]))


class Prompter(nn.Module):
    """Ask a promptable network: points in array index order, Q prompt sets on each image or volume.

    Args:
        network: with `spatial_dims`, `takes_background_clicks`, `takes_masks`, `encode` and `decode`, for example
            `EfficientSAM` or `SAMMed3D`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    @property
    def spatial_dims(self) -> int:
        """2 for images, 3 for volumes."""
        return self.network.spatial_dims

    @property
    def takes_background_clicks(self) -> bool:
        """Whether points may be labelled 0."""
        return self.network.takes_background_clicks

    @property
    def takes_masks(self) -> bool:
        """Whether an earlier answer may be given as mask prompt."""
        return self.network.takes_masks

    def encode(self, image: Tensor) -> Tensor:
        """Embed images (B, 1 or 3, H, W) or volumes (B, 1, D, H, W), (B, P, *tokens)."""
        return self.network.encode(image)[1] if self.spatial_dims == 2 else self.network.encode(image)

    def cell_features(self, embedding: Tensor) -> Tensor:
        """Features of every cell of the masks before any prompt, (B, C, *grid), of what `encode` gave."""
        own = getattr(self.network, "cell_features", None)
        if own is not None:
            return own(embedding)
        upscaling = self.network.mask_decoder.output_upscaling
        affinity = getattr(self.network, "click_affinity", None)
        return upscaling(embedding) if affinity is None else affinity.features(embedding, upscaling)

    def answer(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            embedding: (B, P, *tokens) from `encode`.
            points: (B, Q, N, 2 or 3), Q sets of N points on each image, in array index order, in pixels or voxels of
                the network's input.
            point_labels: (B, Q, N), 1 object, 0 background, -1 padding.
            multimask: three masks for an ambiguous prompt instead of one.
            mask_logits: logits of an earlier answer to each set, (B, Q, 1, *grid).

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

    def first_answer(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        first_mask: int | str | None = None,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer clicks that may mean several things, by one mask all the same.

        Args:
            embedding: see `answer`.
            points: see `answer`.
            point_labels: see `answer`.
            first_mask: which of the three masks, 0 to 2; "single" for the mask of unambiguous prompts; None for the one
                of the three that has the highest predicted IoU.
            mask_logits: see `answer`.

        Returns:
            mask logits (B, Q, 1, *grid) and predicted IoU (B, Q, 1).
        """
        masks, iou = self.answer(embedding, points, point_labels, first_mask != SINGLE, mask_logits)
        if first_mask == SINGLE:
            return masks, iou
        best = iou.argmax(2)
        if isinstance(first_mask, int):
            best = torch.full_like(best, first_mask)
        return select_masks(masks, best), select_masks(iou, best)
