"""EfficientSAM (Xiong et al., CVPR 2024): a plain small ViT with a promptable mask decoder. Apache-2.0 upstream."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._segment_anything import modeling
from .checks import check_image, check_points
from .point_decoder import BatchedDecoding, use_fast_attention
from .promptable_network import PromptableNetwork
from .sam_vit import make_neck

__all__ = ["EfficientSAM"]

# ImageNet statistics of intensities in 0..1
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
PRETRAINED_GRID = 14  # published position embeddings: 14 x 14 tokens behind a class token
NUM_POINT_SLOTS = 6
NUM_MASK_TOKENS = 4


class EfficientSAM(PromptableNetwork):
    """EfficientSAM with point and box-corner prompts; the defaults are EfficientSAM-Ti.

    Args:
        img_size: side of the square input in pixels, a multiple of the patch stride.
        patch_size: side of a patch in pixels.
        embed_dim: channels E of tokens and features (192: Ti, 384: S).
        depth: number of transformer blocks.
        num_heads: attention heads (3: Ti, 6: S).
        prompt_dim: channels P of the embedding.
        decoder_mlp_dim: hidden width of the two-way transformer's MLP.
        iou_head_hidden_dim: hidden width of the head that predicts IoU.
        upscaling_dims: channels of the two upscaling layers of the decoder.
        patch_stride: pixels between patches, `patch_size` unless given; 8 gives 32 x 32 tokens at 256 pixels.
            Overlapping patches stay centred on their token.

    Raises:
        ValueError: when the sizes do not divide each other.
    """

    takes_background_clicks = False  # the published network has no vector for them
    takes_masks = False

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        embed_dim: int = 192,
        depth: int = 12,
        num_heads: int = 3,
        prompt_dim: int = 256,
        decoder_mlp_dim: int = 2048,
        iou_head_hidden_dim: int = 256,
        upscaling_dims: tuple[int, int] = (64, 32),
        patch_stride: int | None = None,
    ) -> None:
        super().__init__()
        stride = patch_size if patch_stride is None else patch_stride
        if img_size % stride or (patch_size - stride) % 2 or not 0 < stride <= patch_size:
            raise ValueError(
                "patch_stride: expected a divisor of img_size, at most patch_size and different from it by an even "
                f"number, but got img_size {img_size}, patch_size {patch_size}, patch_stride {stride}."
            )
        self.img_size = img_size
        self.stride = stride
        self.feature_dim = embed_dim
        self.image_encoder = ViTEncoder(img_size // stride, patch_size, stride, embed_dim, depth, num_heads, prompt_dim)
        self.prompt_encoder = SlotPromptEncoder(prompt_dim, img_size)
        self.mask_decoder = EfficientMaskDecoder(prompt_dim, decoder_mlp_dim, iou_head_hidden_dim, upscaling_dims)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            image: (B, 3, H, W), or (B, 1, H, W) which is repeated to three channels; intensities in 0..1. They are
                standardised with ImageNet's statistics here.

        Returns:
            features (B, E, h, w), the tokens before the neck, and embedding (B, P, h, w) after it.

        Raises:
            ValueError: when shape or values do not fit.
        """
        check_image(image, (self.img_size, self.img_size), (1, 3))
        mean, std = (image.new_tensor(x).view(3, 1, 1) for x in (PIXEL_MEAN, PIXEL_STD))
        return self.image_encoder((image.expand(-1, 3, -1, -1) - mean) / std)

    def decode(
        self, embedding: Tensor, points: Tensor, point_labels: Tensor, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            embedding: (B, P, h, w) from `encode`.
            points: (B, Q, N, 2), Q sets of at most six points on each image, x and y in pixels of the network's input.
            point_labels: (B, Q, N), 1 object, 2 top-left and 3 bottom-right corner of a box, -1 padding. The network
                knows no background points.
            multimask: three masks for an ambiguous prompt instead of one.

        Returns:
            mask logits (B, Q, M, 4h, 4w) and predicted IoU (B, Q, M), M = 3 or 1.

        Raises:
            ValueError: when shapes or values do not fit.
        """
        check_points(points, point_labels, (embedding.shape[0], None), (self.img_size,) * 2, (-1, 1, 2, 3))
        if points.shape[2] > NUM_POINT_SLOTS:
            raise ValueError(f"points: expected at most {NUM_POINT_SLOTS} a set, but got {points.shape[2]}.")
        sparse = self.prompt_encoder(points, point_labels)
        position = self.prompt_encoder.pe_layer(embedding.shape[2:]).unsqueeze(0)
        return self.mask_decoder.decode(embedding, position, sparse, multimask)

    def forward(
        self, image: Tensor, points: Tensor, point_labels: Tensor, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Encode the images, then answer the prompts; see `encode` and `decode`."""
        return self.decode(self.encode(image)[1], points, point_labels, multimask)


class ViTEncoder(nn.Module):
    """Plain pre-norm ViT; positions are resampled bicubically from the pre-training grid, the class token is not
    used.
    """

    def __init__(
        self, grid: int, patch_size: int, stride: int, dim: int, depth: int, num_heads: int, out_channels: int
    ) -> None:
        super().__init__()
        self.grid = grid
        padding = (patch_size - stride) // 2
        self.patch_embed = modeling.image_encoder.PatchEmbed(
            (patch_size, patch_size), (stride, stride), (padding, padding), embed_dim=dim
        )
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + PRETRAINED_GRID**2, dim))
        self.blocks = nn.ModuleList(ViTBlock(dim, num_heads) for _ in range(depth))
        self.neck = make_neck(dim, out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, 3, H, W) into features (B, E, h, w) and the embedding (B, P, h, w)."""
        positions = self.pos_embed[:, 1:].unflatten(1, (PRETRAINED_GRID, PRETRAINED_GRID)).permute(0, 3, 1, 2)
        if self.grid != PRETRAINED_GRID:
            positions = F.interpolate(positions, (self.grid, self.grid), mode="bicubic", align_corners=False)
        tokens = (self.patch_embed(image) + positions.permute(0, 2, 3, 1)).flatten(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        features = tokens.transpose(1, 2).unflatten(-1, (self.grid, self.grid))
        return features, self.neck(features)


class ViTBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = SelfAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Feedforward(dim, 4 * dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (B, N, E)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class SelfAttention(nn.Module):
    """Multi-head self-attention without positions."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (B, N, E)."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Feedforward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        return self.fc2(F.gelu(self.fc1(x)))


class SlotPromptEncoder(nn.Module):
    """Points in six slots: position features plus a vector for the label; free slots carry label -1 at coordinate
    -1.
    """

    def __init__(self, prompt_dim: int, img_size: int) -> None:
        super().__init__()
        self.img_size = img_size
        self.pe_layer = modeling.prompt_encoder.PositionEmbeddingRandom(prompt_dim // 2)
        self.invalid_points = nn.Embedding(1, prompt_dim)
        self.point_embeddings = nn.Embedding(1, prompt_dim)
        self.bbox_top_left_embeddings = nn.Embedding(1, prompt_dim)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, prompt_dim)

    def forward(self, points: Tensor, point_labels: Tensor) -> Tensor:
        """Embed points (B, Q, N, 2) with labels (B, Q, N) into (B, Q, 6, P)."""
        free = NUM_POINT_SLOTS - points.shape[2]
        labels = F.pad(point_labels, (0, free), value=-1)
        points = torch.where(labels.unsqueeze(-1) == -1, -1, F.pad(points, (0, 0, 0, free)))
        position = self.pe_layer.forward_with_coords((points + 0.5).flatten(0, 1), (self.img_size, self.img_size))
        by_label = torch.cat(
            [
                self.invalid_points.weight,
                self.point_embeddings.weight,
                self.bbox_top_left_embeddings.weight,
                self.bbox_bottom_right_embeddings.weight,
            ]
        )
        return position.unflatten(0, labels.shape[:2]) + by_label[labels.long().clamp(min=0)]


class EfficientMaskDecoder(BatchedDecoding, nn.Module):
    """Mask decoder whose transformer, upscaling and heads differ from SAM's in activations, norms and residuals."""

    num_mask_tokens = NUM_MASK_TOKENS

    def __init__(
        self, dim: int, mlp_dim: int, iou_head_hidden_dim: int, upscaling_dims: tuple[int, int], num_heads: int = 8
    ) -> None:
        super().__init__()
        transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=dim, num_heads=num_heads, mlp_dim=mlp_dim)
        transformer.layers = nn.ModuleList(TwoWayBlock(dim, num_heads, mlp_dim, first=i == 0) for i in range(2))
        self.transformer = use_fast_attention(transformer)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_MASK_TOKENS, dim)
        first, second = upscaling_dims
        self.final_output_upscaling_layers = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose2d(dim, first, 2, stride=2), nn.GroupNorm(1, first), nn.GELU()),
                nn.Sequential(nn.ConvTranspose2d(first, second, 2, stride=2), nn.GELU()),
            ]
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            StackedMLP(dim, (dim, dim), second) for _ in range(NUM_MASK_TOKENS)
        )
        self.iou_prediction_head = StackedMLP(dim, (iou_head_hidden_dim, iou_head_hidden_dim), NUM_MASK_TOKENS)

    def output_upscaling(self, tokens: Tensor) -> Tensor:
        """Bring tokens (B, P, h, w) to (B, C, 4h, 4w)."""
        for layer in self.final_output_upscaling_layers:
            tokens = layer(tokens)
        return tokens


class TwoWayBlock(modeling.transformer.TwoWayAttentionBlock):
    """SAM's two-way block as EfficientSAM changed it: self-attention always has its residual, and after the first block
    the queries with their positions added replace the queries, as value and in the residual too.
    """

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, first: bool) -> None:
        super().__init__(dim, num_heads, mlp_dim, skip_first_layer_pe=first)
        self.mlp = StackedMLP(dim, (mlp_dim,), dim)

    def forward(self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Update queries (B, N, P) and keys (B, M, P); their positions have the same shapes."""
        if not self.skip_first_layer_pe:
            queries = queries + query_pe
        queries = self.norm1(queries + self.self_attn(queries, queries, queries))
        attended = self.cross_attn_token_to_image(q=queries + query_pe, k=keys + key_pe, v=keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))
        attended = self.cross_attn_image_to_token(q=keys + key_pe, k=queries + query_pe, v=queries)
        return queries, self.norm4(keys + attended)


class StackedMLP(nn.Module):
    """Hidden layers with GELU, then a linear layer; names as in the published checkpoints."""

    def __init__(self, in_dim: int, hidden_dims: tuple[int, ...], out_dim: int) -> None:
        super().__init__()
        dims = (in_dim, *hidden_dims)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(before, after), nn.GELU()) for before, after in zip(dims, dims[1:], strict=False)
        )
        self.fc = nn.Linear(dims[-1], out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_dim) to (..., out_dim)."""
        for layer in self.layers:
            x = layer(x)
        return self.fc(x)
