"""Segment Anything with a plain ViT encoder (Kirillov et al., ICCV 2023), also the architecture of MedSAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ._segment_anything import modeling
from .checks import check_image, check_mask_logits, check_points
from .click_affinity import ClickAffinity
from .point_decoder import PointMaskDecoder, PointPromptEncoder, use_fast_attention
from .promptable_network import PromptableNetwork
from .window_attention import TransformerBlock

__all__ = ["PromptableSAM", "SAMViT", "SAMViTEncoder"]

# of RGB images in 0..255; the networks here take intensities in 0..1
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class SAMViTEncoder(nn.Module):
    """SAM's image encoder: patches, absolute positions, transformer blocks with windows, neck.

    Args:
        img_size: side of the square input in pixels, a multiple of `patch_size`.
        patch_size: side of a patch in pixels.
        embed_dim: channels of the tokens.
        depth: number of transformer blocks.
        num_heads: attention heads.
        global_attn_indexes: blocks that attend to the whole image.
        window_size: side of the attention windows of the other blocks, in tokens.
        out_channels: channels P after the neck.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        global_attn_indexes: Sequence[int],
        window_size: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        grid = (img_size // patch_size,) * 2
        self.patch_embed = modeling.image_encoder.PatchEmbed(
            (patch_size, patch_size), (patch_size, patch_size), embed_dim=embed_dim
        )
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, *grid, embed_dim))
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, num_heads, grid, 0 if i in global_attn_indexes else window_size)
            for i in range(depth)
        )
        self.neck = make_neck(embed_dim, out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, 3, H, W) into features (B, E, h, w) and the embedding (B, P, h, w)."""
        tokens = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        features = tokens.permute(0, 3, 1, 2)
        return features, self.neck(features)


def make_neck(
    in_channels: int,
    out_channels: int,
    convolution: Callable[..., nn.Module] = nn.Conv2d,
    norm: Callable[[int], nn.Module] = modeling.common.LayerNorm2d,
) -> nn.Sequential:
    """SAM's neck: convolutions with kernels of 1 and 3, each with a layer norm over channels."""
    return nn.Sequential(
        convolution(in_channels, out_channels, 1, bias=False),
        norm(out_channels),
        convolution(out_channels, out_channels, 3, padding=1, bias=False),
        norm(out_channels),
    )


class PromptableSAM(PromptableNetwork):
    """Image encoder, prompt encoder and mask decoder of SAM behind `encode` and `decode`.

    Args:
        image_encoder: maps (B, 3, H, W) to features (B, E, h, w) and embedding (B, P, h, w).
        img_size: side of the square input in pixels.
        stride: pixels a token.
        feature_dim: channels E of the features.
        prompt_dim: channels P of the embedding, a multiple of 8.
        decoder_mlp_dim: hidden width of the two-way transformer's MLP.
        iou_head_hidden_dim: hidden width of the head that predicts IoU.
        normalize: whether intensities are standardised with SAM's RGB mean and deviation.
        detail_dim: hidden channels of a `ClickAffinity`; 0 for none.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        img_size: int,
        stride: int,
        feature_dim: int,
        prompt_dim: int,
        decoder_mlp_dim: int,
        iou_head_hidden_dim: int,
        normalize: bool,
        detail_dim: int = 0,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.stride = stride
        self.feature_dim = feature_dim
        self.normalize = normalize
        self.image_encoder = image_encoder
        grid = (img_size // stride,) * 2
        self.prompt_encoder = PointPromptEncoder(prompt_dim, grid, (img_size, img_size), mask_in_chans=16)
        transformer = modeling.TwoWayTransformer(
            depth=2, embedding_dim=prompt_dim, num_heads=8, mlp_dim=decoder_mlp_dim
        )
        self.mask_decoder = PointMaskDecoder(
            transformer_dim=prompt_dim,
            transformer=use_fast_attention(transformer),
            iou_head_hidden_dim=iou_head_hidden_dim,
        )
        if detail_dim:
            self.click_affinity = ClickAffinity(2, prompt_dim, prompt_dim // 8, max(1, stride // 4), detail_dim)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            image: (B, 3, H, W), or (B, 1, H, W) which is repeated to three channels; intensities in 0..1.

        Returns:
            features (B, E, h, w) before the neck and embedding (B, P, h, w) after it; with cells behind its P channels
            if there is a `ClickAffinity`.

        Raises:
            ValueError: when shape or values do not fit.
        """
        features, embedding = self._encode(image)
        return features, self._with_cells(embedding, image)

    def encode_features(self, image: Tensor) -> Tensor:
        """Features (B, E, h, w) of `encode` alone, for networks that ask for no masks."""
        return self._encode(image)[0]

    def _encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        check_image(image, (self.img_size, self.img_size), (1, 3))
        pixels = image.expand(-1, 3, -1, -1)
        if self.normalize:
            mean, std = (image.new_tensor(x).view(3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
            pixels = (255 * pixels - mean) / std
        return self.image_encoder(pixels)

    def decode(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer point prompts.

        Args:
            embedding: from `encode`.
            points: (B, Q, N, 2), Q sets of N points on each image, x and y in pixels of the network's input.
            point_labels: (B, Q, N), 1 object, 0 background, -1 padding.
            multimask: three masks for an ambiguous prompt instead of one.
            mask_logits: logits of an earlier answer to each set as its mask prompt, (B, Q, 1, 4h, 4w).

        Returns:
            mask logits (B, Q, M, 4h, 4w) and predicted IoU (B, Q, M), M = 3 or 1.

        Raises:
            ValueError: when shapes or values do not fit.
        """
        check_points(points, point_labels, (embedding.shape[0], None), (self.img_size,) * 2, (-1, 0, 1))
        batch = points.shape[:2]
        sparse = self.prompt_encoder.embed_points(points.flatten(0, 1), point_labels.flatten(0, 1)).unflatten(0, batch)
        position = self.prompt_encoder.get_dense_pe()
        embedding, cells = self._clicked_cells(embedding, points.flip(-1), point_labels)
        if mask_logits is None:
            no_mask = self.prompt_encoder.no_mask_embed.weight[..., None, None]
            return self.mask_decoder.decode(embedding + no_mask, position, sparse, multimask, cells=cells)
        check_mask_logits(mask_logits, (*batch, 1, *(4 * side for side in embedding.shape[2:])))
        embed_masks = self.prompt_encoder.mask_downscaling
        return self.mask_decoder.decode(embedding, position, sparse, multimask, mask_logits, embed_masks, cells)

    def forward(
        self,
        image: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode the images, then answer the prompts; see `encode` and `decode`."""
        return self.decode(self.encode(image)[1], points, point_labels, multimask, mask_logits)


class SAMViT(PromptableSAM):
    """SAM with its own ViT at any input size that is a multiple of the patch size; the defaults are ViT-B.

    `load_checkpoint` reads SAM's and MedSAM's files and resamples the position tables to the input size.

    Args:
        img_size: side of the square input in pixels.
        embed_dim: channels of the tokens.
        depth: number of transformer blocks.
        num_heads: attention heads.
        global_attn_indexes: blocks that attend to the whole image.
        window_size: side of the attention windows of the other blocks, in tokens.
        prompt_dim: channels of the embedding.
        decoder_mlp_dim: hidden width of the two-way transformer's MLP.
        iou_head_hidden_dim: hidden width of the head that predicts IoU.
        normalize: standardise with SAM's RGB statistics; True for SAM's weights, False for MedSAM's.
        patch_size: side of a patch in pixels; 16 for published weights, smaller for small images.

    Raises:
        ValueError: when `img_size` is not a positive multiple of `patch_size`.
    """

    def __init__(
        self,
        img_size: int = 1024,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        global_attn_indexes: Sequence[int] = (2, 5, 8, 11),
        window_size: int = 14,
        prompt_dim: int = 256,
        decoder_mlp_dim: int = 2048,
        iou_head_hidden_dim: int = 256,
        normalize: bool = True,
        patch_size: int = 16,
    ) -> None:
        if img_size < patch_size or img_size % patch_size:
            raise ValueError(f"img_size: expected a positive multiple of {patch_size}, but got {img_size}.")
        encoder = SAMViTEncoder(
            img_size, patch_size, embed_dim, depth, num_heads, global_attn_indexes, window_size, prompt_dim
        )
        super().__init__(
            encoder, img_size, patch_size, embed_dim, prompt_dim, decoder_mlp_dim, iou_head_hidden_dim, normalize
        )
