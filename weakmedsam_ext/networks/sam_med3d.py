"""SAM-Med3D (Wang et al., ECCV Workshops 2024), Segment Anything for volumes; also SAM-Med3D-turbo and SegAnyPET."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._segment_anything import modeling
from .channel_norm import ChannelNorm
from .checks import check_image, check_mask_logits, check_points
from .click_affinity import ClickAffinity
from .point_decoder import BatchedDecoding, use_fast_attention
from .promptable_network import PromptableNetwork
from .sam_vit import make_neck
from .window_attention import TransformerBlock, WindowAttention, logsumexp

__all__ = ["SAMMed3D"]

MLP = modeling.mask_decoder.MLP
NUM_MASK_TOKENS = 4


class SAMMed3D(PromptableNetwork):
    """SAM-Med3D with point and mask prompts; the defaults are `vit_b_ori`.

    Args:
        img_size: side of the cubic input in voxels, a multiple of `patch_size`.
        patch_size: side of a patch in voxels.
        embed_dim: channels of the tokens.
        depth: number of transformer blocks.
        num_heads: attention heads.
        global_attn_indexes: blocks that attend to the whole volume.
        window_size: side of the attention windows of the other blocks, in tokens.
        prompt_dim: channels P of the embedding, a multiple of 24.
        iou_head_hidden_dim: hidden width of the head that predicts IoU.
        detail_dim: hidden channels of a `ClickAffinity`, for networks that are trained from random weights; 0 for none,
            as published.

    Raises:
        ValueError: when `img_size` is not a multiple of `patch_size` or `prompt_dim` not of 24.
    """

    spatial_dims = 3

    def __init__(
        self,
        img_size: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        window_size: int = 14,
        prompt_dim: int = 384,
        iou_head_hidden_dim: int = 256,
        detail_dim: int = 0,
    ) -> None:
        super().__init__()
        if img_size < patch_size or img_size % patch_size:
            raise ValueError(f"img_size: expected a positive multiple of patch_size {patch_size}, but got {img_size}.")
        if prompt_dim % 24:
            raise ValueError(
                f"prompt_dim: expected a multiple of 24 (8 heads, 3 groups of frequencies), but got {prompt_dim}."
            )
        self.img_size = img_size
        self.grid = (img_size // patch_size,) * 3
        self.feature_dim = embed_dim
        self.image_encoder = VolumeEncoder(
            self.grid, patch_size, embed_dim, depth, num_heads, global_attn_indexes, window_size, prompt_dim
        )
        self.prompt_encoder = VolumePromptEncoder(prompt_dim, img_size)
        self.mask_decoder = VolumeMaskDecoder(prompt_dim, iou_head_hidden_dim)
        if detail_dim:
            self.click_affinity = ClickAffinity(3, prompt_dim, prompt_dim // 8, max(1, patch_size // 4), detail_dim)

    def encode(self, volume: Tensor) -> Tensor:
        """Encode volumes.

        Args:
            volume: (B, 1, D, H, W). The published weights expect 1.5 mm voxels, standardised over the voxels above
                zero.

        Returns:
            embedding (B, P, d, h, w); with cells behind its P channels if there is a `ClickAffinity`.

        Raises:
            ValueError: when shape or values do not fit.
        """
        check_image(volume, (self.img_size,) * 3, (1,))
        return self._with_cells(self.image_encoder(volume), volume)

    def decode(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Answer one prompt set a volume.

        Args:
            embedding: from `encode`.
            points: (B, N, 3) in array index order (axis 0, 1, 2), in voxels of the network's input.
            point_labels: (B, N), 1 object, 0 background, -1 padding.
            mask_logits: logits of an earlier answer as mask prompt, (B, 1, 4d, 4h, 4w). None stands for logits of zero,
                as in the published training, which never used the learned "no mask" vector of its files.
            multimask: three masks for an ambiguous prompt instead of one. Published weights were trained for one mask
                only; networks trained here learn all.

        Returns:
            mask logits (B, M, 4d, 4h, 4w) and predicted IoU (B, M), M = 3 or 1.

        Raises:
            ValueError: when shapes or values do not fit.
        """
        check_points(points, point_labels, embedding.shape[:1], (self.img_size,) * 3, (-1, 0, 1))
        expected = (embedding.shape[0], 1, *(4 * size for size in self.grid))
        if mask_logits is None:
            mask_logits = embedding.new_zeros(expected)
        check_mask_logits(mask_logits, expected)
        dense = self.prompt_encoder.mask_downscaling(mask_logits)
        sparse = self.prompt_encoder.embed_points(points, point_labels).unsqueeze(1)
        position = self.prompt_encoder.dense_position(self.grid)
        embedding, cells = self._clicked_cells(embedding, points.unsqueeze(1), point_labels.unsqueeze(1))
        masks, iou = self.mask_decoder.decode(embedding + dense, position, sparse, multimask, cells=cells)
        return masks[:, 0], iou[:, 0]

    def forward(
        self,
        volume: Tensor,
        points: Tensor,
        point_labels: Tensor,
        mask_logits: Tensor | None = None,
        multimask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Encode the volumes, then answer the prompts; see `encode` and `decode`."""
        return self.decode(self.encode(volume), points, point_labels, mask_logits, multimask)


class PatchEmbedding(nn.Module):
    """Non-overlapping patches as tokens."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(1, dim, patch_size, stride=patch_size)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, 1, D, H, W) to (B, d, h, w, E)."""
        return self.proj(volume).movedim(1, -1)


class VolumeAttention(WindowAttention):
    """Window attention with the relative terms of the published network, in which axes are mixed up.

    For the query at (d, h, w) and the key at (i, j, k) it adds
    q[d, h, w] . r_d[d - k] + q[d, h, i] . r_h[h - k] + q[d, h, j] . r_w[j - k]: every table is read along the keys'
    last axis, and two terms take the query of another place in the row. The public weights were trained with this.
    """

    def _relative_bias(self, q: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        depth, height, width = sides
        side = (self.get_parameter("rel_pos_d").shape[0] + 1) // 2  # of the padded window
        tables = [
            self._relative_table(axis, num).to(q.dtype) for axis, num in (("d", depth), ("h", height), ("w", side))
        ]
        q = q.unflatten(-2, (depth, height, width))  # (W, heads, d, h, w, c)
        padding = self._qkv_bias(q.dtype)[0][..., None, None, :, :].expand(*q.shape[:4], side - width, -1)
        row = torch.cat([q, padding], dim=-2)  # the row (d, h) of the padded window
        term_d = torch.einsum("...dhwc,dkc->...dhwk", q, tables[0])
        term_h = torch.einsum("...dhic,hkc->...dhik", row, tables[1])
        term_w = torch.einsum("...dhjc,jkc->...dhjk", row, tables[2])
        bias = (
            term_d[..., None, None, :width]
            + term_h[..., None, :depth, None, :width]
            + term_w[..., None, None, :height, :width]
        )  # (W, heads, d, h, w, i, j, k)
        weight = _mixed_padding_log_weight(term_d, term_h, term_w, sides) if min(sides) < side else None
        return bias.flatten(-3).flatten(2, -2), weight


def _mixed_padding_log_weight(term_d: Tensor, term_h: Tensor, term_w: Tensor, sides: Sequence[int]) -> Tensor:
    """Log of the sum of exp(term_d[k] + term_h[i, k] + term_w[j, k]) over the padded keys (i, j, k), (W, heads, n, 1).

    As in `WindowAttention`, the padded keys are a disjoint union of boxes, here cut along k, then i, then j.
    """
    depth, height, width = sides
    over_i = [
        logsumexp(x.transpose(-1, -2)).unsqueeze(-2) for x in (term_h[..., :depth, :], term_h[..., depth:, :], term_h)
    ]
    over_j = [logsumexp(x.transpose(-1, -2)).unsqueeze(-2) for x in (term_w[..., height:, :], term_w)]
    real_i, padded_i, all_i = over_i
    padded_j, all_j = over_j
    boxes = [
        (term_d + all_i + all_j)[..., width:],
        (term_d + padded_i + all_j)[..., :width],
        (term_d + real_i + padded_j)[..., :width],
    ]
    return logsumexp(torch.cat(boxes, -1)).flatten(2).unsqueeze(-1)


class VolumeBlock(TransformerBlock):
    """SAM's transformer block with `VolumeAttention`."""

    attention = VolumeAttention


class VolumeEncoder(nn.Module):
    """SAM's image encoder in three dimensions."""

    def __init__(
        self,
        grid: tuple[int, ...],
        patch_size: int,
        dim: int,
        depth: int,
        num_heads: int,
        global_attn_indexes: Sequence[int],
        window_size: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(patch_size, dim)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, *grid, dim))
        self.blocks = nn.ModuleList(
            VolumeBlock(dim, num_heads, grid, 0 if i in global_attn_indexes else window_size) for i in range(depth)
        )
        self.neck = make_neck(dim, out_channels, nn.Conv3d, ChannelNorm)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, 1, D, H, W) to (B, P, d, h, w)."""
        tokens = self.patch_embed(volume) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.movedim(-1, 1))


class FourierPosition(nn.Module):
    """Random Fourier features of three coordinates, concatenated as (sin, cos, sin) as in the published network."""

    def __init__(self, prompt_dim: int) -> None:
        super().__init__()
        self.positional_encoding_gaussian_matrix: Tensor
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(3, prompt_dim // 3))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Map (..., 3) in 0..1 to (..., P)."""
        angles = 2 * torch.pi * ((2 * coordinates - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos(), angles.sin()], dim=-1)


class VolumePromptEncoder(nn.Module):
    """Embeds points and mask prompts."""

    def __init__(self, prompt_dim: int, img_size: int, mask_channels: int = 16) -> None:
        super().__init__()
        self.img_size = img_size
        self.pe_layer = FourierPosition(prompt_dim)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, prompt_dim) for _ in range(2))  # background, object
        self.not_a_point_embed = nn.Embedding(1, prompt_dim)
        self.no_mask_embed = nn.Embedding(1, prompt_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, mask_channels // 4, 2, stride=2),
            ChannelNorm(mask_channels // 4),
            nn.GELU(),
            nn.Conv3d(mask_channels // 4, mask_channels, 2, stride=2),
            ChannelNorm(mask_channels),
            nn.GELU(),
            nn.Conv3d(mask_channels, prompt_dim, 1),
        )

    def embed_points(self, points: Tensor, point_labels: Tensor) -> Tensor:
        """Embed points (B, N, 3) with labels (B, N), adding one padding point: (B, N + 1, P)."""
        labels = F.pad(point_labels, (0, 1), value=-1).unsqueeze(-1)
        position = self.pe_layer((F.pad(points, (0, 0, 0, 1)) + 0.5) / self.img_size)
        background, foreground = (embedding.get_parameter("weight") for embedding in self.point_embeddings)
        point = position + torch.where(labels == 1, foreground, background)
        return torch.where(labels == -1, self.not_a_point_embed.weight, point)

    def dense_position(self, grid: Sequence[int]) -> Tensor:
        """Position features of the tokens, (1, P, d, h, w).

        The published weights were trained with axes 0 and 1 swapped here, unlike in `embed_points`, so the swap stays.
        """
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        centres = [(torch.arange(size, device=matrix.device, dtype=matrix.dtype) + 0.5) / size for size in grid]
        axis0, axis1, axis2 = torch.meshgrid(*centres, indexing="ij")
        return self.pe_layer(torch.stack([axis1, axis0, axis2], dim=-1)).movedim(-1, 0).unsqueeze(0)


class VolumeMaskDecoder(BatchedDecoding, nn.Module):
    """SAM's mask decoder with three-dimensional upscaling."""

    num_mask_tokens = NUM_MASK_TOKENS

    def __init__(self, dim: int, iou_head_hidden_dim: int) -> None:
        super().__init__()
        transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=8, mlp_dim=2048)
        self.transformer = use_fast_attention(transformer)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(dim, dim // 4, 2, stride=2),
            ChannelNorm(dim // 4),
            nn.GELU(),
            nn.ConvTranspose3d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(NUM_MASK_TOKENS))
        self.iou_prediction_head = MLP(dim, iou_head_hidden_dim, NUM_MASK_TOKENS, 3)
