"""Base class of the promptable networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .click_affinity import ClickAffinity, ClickedCells

__all__ = ["PromptableNetwork"]


class PromptableNetwork(nn.Module):
    """Says what a promptable network can be asked, and gives the features of the cells of its masks.

    Networks for images have `encode(image) -> (features, embedding)`, networks for volumes `encode(volume) ->
    embedding`; both have `decode` and a `mask_decoder` whose `output_upscaling` brings tokens to the cells of a mask.

    Attributes:
        spatial_dims: 2 for images, 3 for volumes.
        takes_background_clicks: whether points may be labelled 0.
        takes_masks: whether the logits of an earlier answer may be given as mask prompt.
        takes_prompt_sets: whether `decode` answers Q prompt sets on each volume, as all networks do on images:
            `decode(embedding, points (B, Q, N, 3), point_labels, multimask, mask_logits)`.
        mask_scale: size of masks and mask prompts along every axis, in that of the embedding.
    """

    spatial_dims: int = 2
    takes_background_clicks: bool = True
    takes_masks: bool = True
    takes_prompt_sets: bool = False
    mask_scale: int = 4

    mask_decoder: Any

    def __init__(self) -> None:
        super().__init__()
        self.click_affinity: ClickAffinity | None = None

    def cell_features(self, embedding: Tensor) -> Tensor:
        """Features of every cell of the masks before any prompt, (B, C, *grid), from the embedding of `encode`."""
        if self.click_affinity is None:
            return self.mask_decoder.output_upscaling(embedding)
        return self.click_affinity.split(embedding)[2]

    def _with_cells(self, embedding: Tensor, image: Tensor) -> Tensor:
        """The embedding, with the cells of a `ClickAffinity` behind its channels if the network has one."""
        if self.click_affinity is None:
            return embedding
        return self.click_affinity.append(embedding, image, self.mask_decoder.output_upscaling)

    def _clicked_cells(
        self, embedding: Tensor, points: Tensor, point_labels: Tensor
    ) -> tuple[Tensor, ClickedCells | None]:
        """Undo `_with_cells`: the embedding (B, P, *tokens), and what (B, Q, N, dims) clicks say about the cells."""
        if self.click_affinity is None:
            return embedding, None
        return self.click_affinity.split(embedding)[0], self.click_affinity(embedding, points, point_labels)
