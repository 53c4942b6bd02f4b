"""Affinity of every cell of a mask to the clicked places, so that masks follow borders within a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from monai.networks.layers import Conv
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from .channel_norm import ChannelNorm

__all__ = ["ClickAffinity", "ClickedCells"]

UPSCALING = 4  # cells a token along each axis, in all masks of SAM's kind
# weights of the affinity to object clicks, of that to background clicks, and of a constant: the mask of an untrained
# network is where the affinity to an object click exceeds one half
INITIAL_WEIGHTS = (6.0, -6.0, -3.0)


class ClickedCells(NamedTuple):
    """What a `ClickAffinity` tells the mask decoder about R = B * Q prompt sets.

    Attributes:
        details: of every image, to be added to the upscaled embedding, (B, C, *grid).
        affinity: of every cell to object clicks, to background clicks, and 1, (R, 3, *grid).
        heads: linear layers P -> 3, one a mask, from the mask's token to the weights of the three.
    """

    details: Tensor
    affinity: Tensor
    heads: nn.ModuleList


class ClickAffinity(nn.Module):
    """Adds image details and the similarity to the clicked places to the masks of a promptable network.

    SAM's decoder draws the cells within a token from that token alone, so a small network that is trained for minutes
    answers with blocks around the click. Two additions change that:

    - **Details:** convolutions on the image at the resolution of the masks are added to the upscaled embedding, as in
      SAM 2 (Ravi et al., ICLR 2025). The sum before any prompt is the feature vector f of every cell.
    - **Affinity:** exp(-gain * mean_c |f_c(click) - f_c(cell)|) is added to the mask logits, with weights from the
      mask's token. `RegionAffinityLoss` trains it to be the probability that click and cell are in one region (after
      AffinityNet, Ahn and Kwak, CVPR 2018). Of several clicks with one label the most similar one counts.

    The network's `encode` appends the details and the features of a token's cells to the channels of its embedding, so
    that one tensor still holds all that `decode` needs, and every image is upscaled without prompt only once.

    Args:
        spatial_dims: 2 or 3.
        prompt_dim: channels P of the embedding.
        channels: C of the upscaled embedding.
        cell_size: pixels or voxels a cell along each axis.
        detail_dim: hidden channels of the convolutions.
        num_masks: mask tokens of the network.
        gain: factor on the distance of features, as in the loss.
    """

    def __init__(
        self,
        spatial_dims: int,
        prompt_dim: int,
        channels: int,
        cell_size: int,
        detail_dim: int,
        num_masks: int = 4,
        gain: float = 4.0,
    ) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.prompt_dim = prompt_dim
        self.cell_size = cell_size
        self.gain = gain
        convolution = Conv[Conv.CONV, spatial_dims]
        layers: list[nn.Module] = []
        for before, stride in ((1, 1), *[(detail_dim, cell_size)] * (cell_size > 1), (detail_dim, 1)):
            layers += [
                convolution(before, detail_dim, 3, stride, padding=1, bias=False),
                ChannelNorm(detail_dim),
                nn.GELU(),
            ]
        self.details = nn.Sequential(*layers, convolution(detail_dim, channels, 3, padding=1))
        self.heads = nn.ModuleList(nn.Linear(prompt_dim, len(INITIAL_WEIGHTS)) for _ in range(num_masks))
        for head in self.heads:
            nn.init.zeros_(head.get_parameter("weight"))
            head.get_parameter("bias").data = torch.tensor(INITIAL_WEIGHTS)

    def append(self, embedding: Tensor, image: Tensor, upscaling: Callable[[Tensor], Tensor]) -> Tensor:
        """Append details and features of the cells to an embedding.

        Args:
            embedding: (B, P, *tokens).
            image: (B, 1 or 3 alike, *spatial).
            upscaling: of the mask decoder, maps (B, P, *tokens) to (B, C, *grid).

        Returns:
            (B, P + 2 * C * 4^dims, *tokens).
        """
        details = self.details(image[:, :1])
        cells = (details, upscaling(embedding) + details)
        return torch.cat([embedding, *(pixelunshuffle(x, self.spatial_dims, UPSCALING) for x in cells)], dim=1)

    def split(self, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Undo `append`: the embedding (B, P, *tokens), details and features (B, C, *grid)."""
        tokens, cells = embedding[:, : self.prompt_dim], embedding[:, self.prompt_dim :]
        details, features = (pixelshuffle(x, self.spatial_dims, UPSCALING) for x in cells.chunk(2, dim=1))
        return tokens, details, features

    def forward(self, embedding: Tensor, points: Tensor, point_labels: Tensor) -> ClickedCells:
        """Compare every cell with the clicks.

        Args:
            embedding: of `append`.
            points: (B, Q, N, dims), in array index order, in pixels or voxels.
            point_labels: (B, Q, N), 1 object, 0 background, others count for neither.

        Returns:
            what the decoder needs.
        """
        _, details, features = self.split(embedding)
        grid = features.shape[2:]
        cells = [
            (where / self.cell_size).long().clamp(0, size - 1)
            for where, size in zip(points.flatten(1, 2).unbind(-1), grid, strict=True)
        ]
        batch = torch.arange(len(features), device=features.device)[:, None]
        index: tuple[Any, ...] = (batch, slice(None), *cells)
        clicked = features[index]  # (B, Q * N, C)
        distance = torch.cdist(clicked, features.flatten(2).mT.contiguous(), p=1.0) / features.shape[1]
        affinity = torch.exp(-self.gain * distance).unflatten(1, points.shape[1:3])  # (B, Q, N, cells)
        kinds = [
            affinity.where((point_labels == label).unsqueeze(-1), 0).amax(2) for label in (1, 0)
        ]  # each (B, Q, cells)
        maps = torch.stack([*kinds, torch.ones_like(kinds[0])], dim=2).unflatten(-1, grid)
        return ClickedCells(details, maps.flatten(0, 1), self.heads)
