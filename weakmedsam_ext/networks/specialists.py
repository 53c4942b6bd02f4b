"""Networks for volumes that learn from a few masks, by name."""

from __future__ import annotations

from monai.networks.nets import BasicUNet, SegResNet
from monai.utils import look_up_option
from torch import nn

from .thin_vnet import ThinVNet

__all__ = ["SPECIALISTS", "build_specialist"]

SPECIALISTS = ("unet", "seg_resnet", "thin_vnet", "batch_norm_unet")


def build_specialist(name: str, in_channels: int = 1, out_channels: int = 2, channels: int = 16) -> nn.Module:
    """Build a network for volumes; sides of its input are multiples of 16.

    Args:
        name: "unet", MONAI's `BasicUNet` with instance normalisation, whose two deepest levels are six times as wide as
            the finest; "seg_resnet", MONAI's `SegResNet`; "thin_vnet", the V-Net of UA-MT and SemiSAM, see `ThinVNet`;
            "batch_norm_unet", the U-Net of SemiSAM+, whose levels double up to sixteen times.
        in_channels: of the image.
        out_channels: classes with the background.
        channels: of the finest level.

    Raises:
        ValueError: when the name is unknown.
    """
    look_up_option(name, SPECIALISTS)
    if name == "thin_vnet":
        return ThinVNet(in_channels, out_channels, channels)
    if name == "seg_resnet":
        return SegResNet(3, channels, in_channels, out_channels, dropout_prob=0.1, norm=("GROUP", {"num_groups": 4}))
    if name == "batch_norm_unet":
        widths = [channels * factor for factor in (1, 2, 4, 8, 16, 1)]
        return BasicUNet(3, in_channels, out_channels, widths, act="relu", norm="batch")
    widths = [channels * factor for factor in (1, 2, 4, 6, 6, 1)]
    return BasicUNet(3, in_channels, out_channels, widths, dropout=0.1)
