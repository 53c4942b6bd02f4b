"""SAMUS (Lin et al., MICCAI 2024): SAM's ViT for small images, with a CNN branch and adapters, as used by
WeakMedSAM.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._segment_anything import modeling
from .sam_vit import PromptableSAM, make_neck
from .window_attention import TransformerBlock

__all__ = ["SAMUS", "SAMUSEncoder", "is_samus_addition"]

LayerNorm2d = modeling.common.LayerNorm2d
PATCH_SIZE, STRIDE = 16, 8
SAM_GRID = 64  # side of SAM's published absolute positions, which a learned step reduces to the smaller grid


def is_samus_addition(name: str) -> bool:
    """Whether a parameter, by its name, is one that SAMUS adds to SAM."""
    return any(part in name for part in ("_Adapter.", "cnn_embed.", "post_pos_embed."))


class SAMUS(PromptableSAM):
    """SAMUS with point prompts.

    A slice is divided into patches of 16 pixels every 8 pixels, so 256 pixels give 32 x 32 tokens. `load_checkpoint`
    reads SAM ViT-B and MedSAM files (the additions of SAMUS then keep their initial values) and released SAMUS-style
    files, and resamples their position tables.

    Args:
        img_size: side of the square input in pixels, a multiple of 8. SAM's 64 x 64 positions halve to the grid of 256
            pixels, the published size; for another one the result is resampled bilinearly.
        embed_dim: channels E of tokens and features.
        depth: number of transformer blocks.
        num_heads: attention heads.
        global_attn_indexes: blocks that attend to the whole image and to the CNN branch.
        window_size: side of the attention windows of the other blocks, in tokens.
        prompt_dim: channels P of the embedding.
        decoder_mlp_dim: hidden width of the two-way transformer's MLP.
        iou_head_hidden_dim: hidden width of the head that predicts IoU.
        normalize: standardise with SAM's RGB statistics; the released weights were trained without.
        cnn_dims: channels of the CNN branch before its last step, three; smaller for training on CPUs.
        detail_dim: hidden channels of a `ClickAffinity`, for networks that are trained from random weights; 0 for none,
            as published.

    Raises:
        ValueError: when `img_size` is not a positive multiple of 8.
    """

    def __init__(
        self,
        img_size: int = 256,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        window_size: int = 14,
        prompt_dim: int = 256,
        decoder_mlp_dim: int = 2048,
        iou_head_hidden_dim: int = 256,
        normalize: bool = False,
        cnn_dims: Sequence[int] = (64, 128, 256),
        detail_dim: int = 0,
    ) -> None:
        if img_size < STRIDE or img_size % STRIDE:
            raise ValueError(f"img_size: expected a positive multiple of {STRIDE}, but got {img_size}.")
        encoder = SAMUSEncoder(
            img_size, embed_dim, depth, num_heads, global_attn_indexes, window_size, prompt_dim, cnn_dims
        )
        super().__init__(
            encoder,
            img_size,
            STRIDE,
            embed_dim,
            prompt_dim,
            decoder_mlp_dim,
            iou_head_hidden_dim,
            normalize,
            detail_dim,
        )


class SAMUSEncoder(nn.Module):
    """Image encoder of SAMUS; see `SAMUS` for the arguments. Attribute names are those of the published checkpoints."""

    def __init__(
        self,
        img_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        global_attn_indexes: Sequence[int],
        window_size: int,
        out_channels: int,
        cnn_dims: Sequence[int],
    ) -> None:
        super().__init__()
        grid = (img_size // STRIDE,) * 2
        self.resized = img_size + PATCH_SIZE - STRIDE  # so that overlapping patches give one token every STRIDE pixels
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, SAM_GRID, SAM_GRID, embed_dim))
        self.cnn_embed = CNNBranch((*cnn_dims, embed_dim))
        self.patch_embed = modeling.image_encoder.PatchEmbed(
            (PATCH_SIZE, PATCH_SIZE), (STRIDE, STRIDE), embed_dim=embed_dim
        )
        self.post_pos_embed = PositionReduction(embed_dim, grid)
        self.blocks = nn.ModuleList(
            GuidedBlock(embed_dim, num_heads, grid)
            if i in global_attn_indexes
            else TransformerBlock(embed_dim, num_heads, grid, window_size)
            for i in range(depth)
        )
        self.neck = make_neck(embed_dim, out_channels)
        self.input_Adapter = Adapter(embed_dim)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, 3, H, W) into features (B, E, h, w) and the embedding (B, P, h, w)."""
        guide = self.cnn_embed(image)  # (B, E, h, w)
        image = F.interpolate(image, (self.resized, self.resized), mode="bilinear", align_corners=False)
        tokens = self.patch_embed(image)
        tokens = tokens + self.input_Adapter(tokens)
        tokens = tokens + self.post_pos_embed(self.pos_embed)
        for block in self.blocks:
            if isinstance(block, GuidedBlock):
                tokens, guide = block(tokens, guide)
            else:
                tokens = block(tokens)
        features = tokens.permute(0, 3, 1, 2) + 0.5 * guide
        return features, self.neck(features)


class GuidedBlock(TransformerBlock):
    """Global transformer block that also looks at the CNN branch.

    Args:
        dim: channels.
        num_heads: attention heads.
        grid_size: tokens along each axis.
    """

    def __init__(self, dim: int, num_heads: int, grid_size: Sequence[int]) -> None:
        super().__init__(dim, num_heads, grid_size)
        self.MLP_Adapter = Adapter(dim)
        self.Space_Adapter = CrossAttention(dim, num_heads)
        self.refine_Adapter = ConvNormAct(dim, dim, "conv")

    def forward(self, tokens: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Transform tokens (B, h, w, E) and the CNN branch's map (B, E, h, w)."""
        normed = self.norm1(tokens)
        normed = normed + self.Space_Adapter(normed, guide)
        tokens = tokens + self.attn(normed)
        normed = self.norm2(tokens)
        tokens = tokens + self.mlp(normed) + 0.5 * self.MLP_Adapter(normed)
        return tokens, self.refine_Adapter(guide)


class CrossAttention(nn.Module):
    """Multi-head attention from tokens (B, h, w, E) to a map (B, E, h, w)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, guide: Tensor) -> Tensor:
        """Return (B, h, w, E)."""
        source = guide.flatten(2).transpose(1, 2)
        projected = (self.q(tokens).flatten(1, 2), self.k(source), self.v(source))
        heads = [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]
        out = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.proj(out).view_as(tokens)


class Adapter(nn.Module):
    """Bottleneck E -> E/4 -> E with GELU, without the skip connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(dim, dim // 4)
        self.D_fc2 = nn.Linear(dim // 4, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., E) to (..., E)."""
        return self.D_fc2(F.gelu(self.D_fc1(x)))


class ConvNormAct(nn.Module):
    """3x3 convolution without bias, layer norm over channels, GELU, optionally after a 2x2 max-pool.

    Args:
        in_channels: input channels.
        out_channels: output channels.
        name: of the inner sequence, part of the published checkpoints' keys.
        pool: whether to halve the map first.
    """

    def __init__(self, in_channels: int, out_channels: int, name: str, pool: bool = False) -> None:
        super().__init__()
        layers = [nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), LayerNorm2d(out_channels), nn.GELU()]
        self.add_module(name, nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), *layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W) or half that size."""
        return next(self.children())(x)


class CNNBranch(nn.Module):
    """Convolutions that bring an image to the token grid, halving it at every step after the first."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.inc = ConvNormAct(3, channels[0], "conv")
        self.downs = nn.ModuleList(
            ConvNormAct(before, after, "maxpool_conv", pool=True)
            for before, after in zip(channels, channels[1:], strict=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, channels[-1], H/8, W/8)."""
        x = self.inc(image)
        for down in self.downs:
            x = down(x)
        return x


class PositionReduction(nn.Module):
    """Learned step from SAM's 64 x 64 absolute positions to 32 x 32, then to the grid if that is another."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.downs = nn.ModuleList([ConvNormAct(dim, dim, "maxpool_conv", pool=True)])

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Make initial positions smaller or larger, by the weights of the layer norm (its biases start at 0)."""
        for module in self.modules():
            if isinstance(module, LayerNorm2d):
                module.weight.mul_(factor)

    def forward(self, positions: Tensor) -> Tensor:
        """Map (1, 64, 64, E) to (1, h, w, E)."""
        reduced = self.downs[0](positions.permute(0, 3, 1, 2))
        if reduced.shape[2:] != self.grid:
            reduced = F.interpolate(reduced, self.grid, mode="bilinear", align_corners=False)
        return reduced.permute(0, 2, 3, 1)
