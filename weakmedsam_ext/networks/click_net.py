"""ClickNet: one small convolutional network that answers clicks on images and on volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks.segresnet_block import ResBlock
from monai.networks.layers import Conv
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import check_image, check_mask_logits, check_points
from .click_decoder import ClickDecoder
from .promptable_network import PromptableNetwork

__all__ = ["ClickNet"]

CHANNELS = {2: (32, 64, 96, 128, 144), 3: (16, 32, 48, 64, 96)}
WIDTHS = {2: (32, 48, 64, 96), 3: (24, 32, 48, 48)}
FINE, CELL = 8, 2  # channels at full resolution that decoders see; pixels of a cell of the embedding
GROUPS = 8


class ClickNet(PromptableNetwork):
    """A U-Net that encodes once, and a light U-Net on its features and on maps of the clicks that answers each prompt.

    Everything is convolutional: any image whose sides are multiples of `stride` will do. Masks are as fine as the
    image. The answer follows what makes interactive networks good: maps of the distance to the clicks and the last mask
    as inputs (Sofiiuk et al., RITM, ICIP 2022), and the similarity of every place to what was clicked, in features that
    `RegionAffinityLoss` teaches.

    Args:
        spatial_dims: 2 or 3.
        img_size: side in pixels that users of a fixed size should resize to, a multiple of 16.
        channels: of the encoder at each resolution, from the finest, multiples of 8.
        widths: channels of the decoder at each of its resolutions, the first of which is half that of the image.
        key_dim: channels of the features that are compared.

    Raises:
        ValueError: when a setting is out of range.
    """

    takes_prompt_sets = True
    mask_scale = CELL

    def __init__(
        self,
        spatial_dims: int = 2,
        img_size: int = 128,
        channels: Sequence[int] | None = None,
        widths: Sequence[int] | None = None,
        key_dim: int = 24,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, but got {spatial_dims}.")
        channels = tuple(channels or CHANNELS[spatial_dims])
        widths = tuple(widths or WIDTHS[spatial_dims])
        if len(channels) < 2 or any(count % GROUPS for count in (*channels, *widths)):
            raise ValueError(
                f"channels, widths: expected multiples of {GROUPS}, two channels or more, but got {channels}, {widths}."
            )
        self.stride = 2 ** max(len(channels) - 1, len(widths))
        if img_size < self.stride or img_size % self.stride:
            raise ValueError(f"img_size: expected a positive multiple of {self.stride}, but got {img_size}.")
        self.spatial_dims = spatial_dims
        self.img_size = img_size
        self.feature_dim = channels[-1]
        self.image_encoder = FeatureEncoder(spatial_dims, channels)
        convolution = Conv[Conv.CONV, spatial_dims]
        self.fine = convolution(channels[0], FINE, 1)
        self.key_dim = key_dim
        self.keys = convolution(channels[1], key_dim, 1)
        self.coarse_dim = channels[1]
        self.mask_decoder = ClickDecoder(spatial_dims, channels[1], key_dim, FINE, widths)

    def encode(self, image: Tensor) -> Any:
        """Encode images or volumes.

        Args:
            image: (B, 1, *spatial) with sides that are multiples of `stride`, or (B, 3, H, W), of which the mean is
                taken; intensities in 0..1.

        Returns:
            in three dimensions the embedding (B, P, *spatial / 2): features, compared features, and the features of the
            pixels of each cell. In two dimensions a pair: features (B, `feature_dim`, *spatial / 16) at the lowest
            resolution, and the embedding.

        Raises:
            ValueError: when shape or values do not fit.
        """
        size = tuple(max(self.stride, length // self.stride * self.stride) for length in image.shape[2:])
        check_image(image, size or (self.img_size,) * self.spatial_dims, (1, 3) if self.spatial_dims == 2 else (1,))
        lowest, coarse, fine = self.image_encoder(2 * image.mean(1, keepdim=True) - 1)
        fine = pixelunshuffle(self.fine(fine), self.spatial_dims, CELL)
        embedding = torch.cat([coarse, self.keys(coarse), fine], dim=1)
        return (lowest, embedding) if self.spatial_dims == 2 else embedding

    def cell_features(self, embedding: Tensor) -> Tensor:
        """Compared features of every cell (B, C, *spatial / 2) in what `encode` gave."""
        return embedding[:, self.coarse_dim : self.coarse_dim + self.key_dim]

    def decode(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            embedding: from `encode`.
            points: (B, Q, N, dims), Q sets of N points on each image, in pixels or voxels of the network's input: x and
                y in images, array index order in volumes.
            point_labels: (B, Q, N), 1 object, 0 background, -1 padding.
            multimask: three masks for an ambiguous prompt instead of one.
            mask_logits: logits of an earlier answer to each set, (B, Q, 1, *spatial).

        Returns:
            mask logits (B, Q, M, *spatial) and predicted IoU in 0..1 (B, Q, M), M = 3 or 1.

        Raises:
            ValueError: when shapes or values do not fit.
        """
        size = tuple(CELL * length for length in embedding.shape[2:])
        extent = size[::-1] if self.spatial_dims == 2 else size
        check_points(points, point_labels, (len(embedding), None), extent, (-1, 0, 1))
        if mask_logits is not None:
            check_mask_logits(mask_logits, (*points.shape[:2], 1, *size))
        if self.spatial_dims == 2:
            points = points.flip(-1)
        coarse, keys = embedding[:, : self.coarse_dim], self.cell_features(embedding)
        fine = pixelshuffle(embedding[:, self.coarse_dim + self.key_dim :], self.spatial_dims, CELL)
        return self.mask_decoder(coarse, keys, fine, points.float(), point_labels, multimask, mask_logits)

    def forward(
        self, image: Tensor, points: Tensor, point_labels: Tensor, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Encode the images, then answer the prompts; see `encode` and `decode`."""
        encoded = self.encode(image)
        return self.decode(encoded[1] if self.spatial_dims == 2 else encoded, points, point_labels, multimask)


class FeatureEncoder(nn.Module):
    """Residual U-Net whose outputs are features at three resolutions."""

    def __init__(self, spatial_dims: int, channels: Sequence[int]) -> None:
        super().__init__()
        norm = ("group", {"num_groups": GROUPS})
        convolution = Conv[Conv.CONV, spatial_dims]
        self.stem = convolution(1, channels[0], 3, padding=1)
        steps = list(zip(channels, channels[1:], strict=False))
        self.first = ResBlock(spatial_dims, channels[0], norm)
        self.down = nn.ModuleList(convolution(before, after, 3, 2, padding=1) for before, after in steps)
        self.down_blocks = nn.ModuleList(ResBlock(spatial_dims, after, norm) for _, after in steps)
        self.up = nn.ModuleList(convolution(after, before, 1) for before, after in reversed(steps))
        self.up_blocks = nn.ModuleList(ResBlock(spatial_dims, before, norm) for before, _ in reversed(steps))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, 1, *spatial) to features at the lowest, half and full resolution."""
        x = self.first(self.stem(image))
        skips = []
        for down, block in zip(self.down, self.down_blocks, strict=True):
            skips.append(x)
            x = block(down(x))
        outputs = [x]
        for up, block in zip(self.up, self.up_blocks, strict=True):
            x = F.interpolate(up(x), scale_factor=2.0)
            x = block(x + skips.pop())
            outputs.append(x)
        return outputs[0], outputs[-2], outputs[-1]
