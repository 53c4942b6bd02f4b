"""SAM's point prompts and mask decoder in two dimensions, answering many prompts on each of many embeddings at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._segment_anything import modeling
from .click_affinity import ClickedCells

__all__ = ["BatchedDecoding", "FastAttention", "PointMaskDecoder", "PointPromptEncoder", "use_fast_attention"]

# On a CPU, prompts are decoded in parts whose tokens stay within this size, so that they fit its cache
CPU_BYTES = 4 << 20


class FastAttention(modeling.transformer.Attention):
    """SAM's projected attention of the two-way transformer, through `scaled_dot_product_attention`."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from q (B, N, C) to k and v (B, M, C); returns (B, N, C)."""
        heads = [
            self._separate_heads(x, self.num_heads) for x in (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        ]  # each (B, heads, N or M, c)
        return self.out_proj(self._recombine_heads(F.scaled_dot_product_attention(*heads)))


def use_fast_attention(transformer: nn.Module) -> nn.Module:
    """Replace every attention layer of a two-way transformer by `FastAttention`; parameter names stay the same."""
    for parent in list(transformer.modules()):
        for name, child in parent.named_children():
            if type(child) is modeling.transformer.Attention:
                attention: Any = child
                rate = attention.embedding_dim // attention.internal_dim
                setattr(parent, name, FastAttention(attention.embedding_dim, attention.num_heads, rate))
    return transformer


class PointPromptEncoder(modeling.PromptEncoder):
    """SAM's prompt encoder for point prompts, without the data-dependent indexing that cannot be exported."""

    def embed_points(self, points: Tensor, point_labels: Tensor) -> Tensor:
        """Embed sets of points, adding the padding point that stands for "no box".

        Args:
            points: (B, N, 2), x and y in pixels of the network's input.
            point_labels: (B, N), 1 object, 0 background, -1 padding.

        Returns:
            (B, N + 1, P).
        """
        points = F.pad(points + 0.5, (0, 0, 0, 1))
        labels = F.pad(point_labels, (0, 1), value=-1).unsqueeze(-1)
        position = self.pe_layer.forward_with_coords(points, self.input_image_size)
        point = position + torch.where(labels == 1, self.point_embeddings[1].weight, self.point_embeddings[0].weight)
        return torch.where(labels == -1, self.not_a_point_embed.weight, point)


class BatchedDecoding:
    """Mix-in for mask decoders built as SAM's: Q prompt sets on each of B embeddings, only the wanted mask tokens.

    It expects the attributes of SAM's `MaskDecoder`; images and volumes are decoded alike.
    """

    num_mask_tokens: int
    iou_token: nn.Embedding
    mask_tokens: nn.Embedding
    transformer: nn.Module
    output_hypernetworks_mlps: nn.ModuleList
    iou_prediction_head: nn.Module
    output_upscaling: Callable[[Tensor], Tensor]  # (B, P, *grid) -> (B, C, *4 grid)

    def decode(
        self,
        embedding: Tensor,
        position: Tensor,
        sparse: Tensor,
        multimask: bool,
        mask_logits: Tensor | None = None,
        embed_masks: Callable[[Tensor], Tensor] | None = None,
        cells: ClickedCells | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict masks.

        Args:
            embedding: image embedding, (B, P, *grid); with the "no mask" vector added if there is no mask prompt.
            position: position features of the tokens, (1, P, *grid).
            sparse: embedded points, (B, Q, N, P).
            multimask: three masks for an ambiguous prompt instead of one.
            mask_logits: a mask prompt for every prompt set, (B, Q, 1, *4 grid).
            embed_masks: maps mask prompts (pairs, 1, *4 grid) to (pairs, P, *grid), which is added to the embedding.
            cells: result of a `ClickAffinity`, for B * Q prompt sets.

        Returns:
            mask logits (B, Q, M, *4 grid) and predicted IoU (B, Q, M), M = 3 or 1.
        """
        batch, queries = sparse.shape[:2]
        pairs = torch.arange(batch, device=embedding.device).repeat_interleave(queries)
        at_once = len(pairs)
        if embedding.device.type == "cpu":
            at_once = max(1, CPU_BYTES // (embedding[0].numel() * embedding.element_size()))
        pairs_of_part = torch.arange(len(pairs), device=embedding.device).split(at_once)
        parts = []
        for part, tokens in zip(pairs_of_part, sparse.flatten(0, 1).split(at_once), strict=True):
            image = embedding[pairs[part]]
            if mask_logits is not None and embed_masks is not None:
                image = image + embed_masks(mask_logits.flatten(0, 1)[part])
            seen = (
                None if cells is None else ClickedCells(cells.details[pairs[part]], cells.affinity[part], cells.heads)
            )
            parts.append(self._decode_pairs(image, position, tokens, multimask, seen))
        masks, iou = (torch.cat(part).unflatten(0, (batch, queries)) for part in zip(*parts, strict=True))
        return masks, iou

    def _decode_pairs(
        self, embedding: Tensor, position: Tensor, sparse: Tensor, multimask: bool, cells: ClickedCells | None
    ) -> tuple[Tensor, Tensor]:
        """Answer one prompt set (N, P) on each embedding (P, *grid) of a batch."""
        grid, count = embedding.shape[2:], len(sparse)
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(count, -1, -1), sparse], dim=1)
        # SAM's transformer wants two spatial axes and looks at their product only
        position = position.flatten(2).expand(count, -1, -1)
        hidden, image = self.transformer(embedding.flatten(2).unsqueeze(-1), position.unsqueeze(-1), tokens)

        wanted = list(range(1, self.num_mask_tokens)) if multimask else [0]
        upscaled = self.output_upscaling(image.transpose(1, 2).unflatten(-1, grid))
        if cells is not None:
            upscaled = upscaled + cells.details
        masks = self._weigh(self.output_hypernetworks_mlps, hidden, wanted, upscaled)
        if cells is not None:
            masks = masks + self._weigh(cells.heads, hidden, wanted, cells.affinity)
        return masks, self.iou_prediction_head(hidden[:, 0])[:, wanted]

    @staticmethod
    def _weigh(heads: nn.ModuleList, hidden: Tensor, wanted: Sequence[int], maps: Tensor) -> Tensor:
        """Sums (R, M, *grid) of maps (R, C, *grid), weighted by the heads of the wanted mask tokens."""
        weights = torch.stack([heads[i](hidden[:, 1 + i]) for i in wanted], dim=1)
        return (weights @ maps.flatten(2)).unflatten(-1, maps.shape[2:])


class PointMaskDecoder(BatchedDecoding, modeling.MaskDecoder):
    """SAM's mask decoder with `BatchedDecoding`."""
