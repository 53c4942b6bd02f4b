"""The small V-Net of semi-supervised segmentation."""

from __future__ import annotations

from functools import partial

from monai.networks.blocks import Convolution
from torch import Tensor, nn

__all__ = ["ThinVNet"]

NUM_CONVOLUTIONS = (1, 2, 3, 3, 3)  # of the levels, from the finest
DROPOUT = 0.5


class ThinVNet(nn.Module):
    """V-Net (Milletari et al., 3DV 2016) with kernels of 3 voxels, without residual connections, as in UA-MT.

    Yu et al. (MICCAI 2019) and Zhang et al. (SemiSAM, BIBM 2024) train it: 9.45 million parameters with 16 channels.
    MONAI's `VNet` has the original's kernels of 5 voxels and 45.6 million.

    Args:
        in_channels: channels of the image.
        out_channels: classes with the background, K + 1.
        channels: channels of the finest level, doubled four times.
        dropout: apply channel dropout (p = 0.5) at the deepest level and before the output.
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 2, channels: int = 16, dropout: bool = True) -> None:
        super().__init__()
        widths = [channels * 2**level for level in range(len(NUM_CONVOLUTIONS))]
        drop = nn.Dropout3d(DROPOUT if dropout else 0.0)
        # from the deepest level outwards
        body: nn.Module = nn.Sequential(_block(widths[-1], widths[-1], NUM_CONVOLUTIONS[-1]), drop)
        for level in reversed(range(len(widths) - 1)):
            before = widths[level] if level else in_channels
            body = _Level(before, widths[level], NUM_CONVOLUTIONS[level], body)
        self.body = body
        self.head = nn.Sequential(drop, nn.Conv3d(channels, out_channels, 1))

    def encoder_outputs(self) -> list[nn.Module]:
        """Modules whose outputs go from the encoder to the decoder alone, from the finest level to the deepest."""
        found, inner = [], self.body
        while isinstance(inner, _Level):
            found.append(inner.skip)
            inner = inner.inner
        return [*found, inner]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, D, H, W) of images (B, in_channels, D, H, W).

        Raises:
            ValueError: when an axis is no multiple of 16.
        """
        for length in image.shape[2:]:
            if length % 16 != 0:
                raise ValueError(f"image: expected axes that are multiples of 16, but got {image.shape}; pad it.")
        return self.head(self.body(image))


class _Level(nn.Module):
    """Encoder and decoder of one resolution around an inner network at half of it."""

    def __init__(self, before: int, width: int, count: int, inner: nn.Module) -> None:
        super().__init__()
        self.encoder = _block(before, width, count)
        self.skip = nn.Identity()
        self.down = _convolution(width, 2 * width, strides=2, kernel_size=2, padding=0)
        self.inner = inner
        self.up = _convolution(
            2 * width, width, strides=2, kernel_size=2, padding=0, output_padding=0, is_transposed=True
        )
        self.decoder = _block(width, width, count)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.encoder(x)
        return self.decoder(self.skip(kept) + self.up(self.inner(self.down(kept))))


_convolution = partial(Convolution, 3, adn_ordering="NA", norm="batch", act="relu")


def _block(before: int, width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_convolution(before if n == 0 else width, width) for n in range(count)))
