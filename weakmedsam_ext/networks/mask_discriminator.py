"""Discriminator between segmentations of labelled and of unlabelled images."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

__all__ = ["MaskDiscriminator"]


class MaskDiscriminator(nn.Module):
    """Convolutional discriminator on an image and its segmentation (Zhang et al., DAN, MICCAI 2017).

    Every layer halves the axes and doubles the channels. The features are averaged over all places, so any image of at
    least 2^num_layers voxels a side fits.

    Args:
        in_channels: channels of image and segmentation together.
        channels: channels of the first layer.
        num_layers: at least 1.
        dropout: probability of dropping a channel, after every layer but the last.
        spatial_dims: 3 for volumes, 2 for images.

    Raises:
        ValueError: when there is no layer.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 64,
        num_layers: int = 4,
        dropout: float = 0.5,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers: expected at least 1, but got {num_layers}.")
        widths = [in_channels, *(channels * 2**layer for layer in range(num_layers))]
        self.layers = nn.Sequential(
            *(
                Convolution(
                    spatial_dims,
                    widths[layer],
                    widths[layer + 1],
                    strides=2,
                    kernel_size=4,
                    padding=1,
                    adn_ordering="AD",
                    act=("leakyrelu", {"negative_slope": 0.2}),
                    dropout=dropout if layer + 1 < num_layers else None,
                    dropout_dim=spatial_dims,
                )
                for layer in range(num_layers)
            )
        )
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, image: Tensor, probability: Tensor) -> Tensor:
        """Classify segmentations.

        Args:
            image: (B, C, *spatial).
            probability: softmax of the segmentation, (B, K + 1, *spatial).

        Returns:
            logits (B, 1), high where the segmentation looks like one of a labelled image.
        """
        features = self.layers(torch.cat([image, probability], dim=1))
        return self.head(features.flatten(2).mean(2))
