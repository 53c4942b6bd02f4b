"""Networks by name, published sizes and sizes that train on two CPU cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.utils import look_up_option
from torch import nn

from .checkpoints import load_checkpoint
from .click_initialization import init_click_attention
from .click_net import ClickNet
from .efficient_sam import EfficientSAM
from .efficientnet_lite import EfficientNetLite
from .promptable_vista3d import PromptableVISTA3D
from .sam_med3d import SAMMed3D
from .sam_vit import SAMViT
from .samus import SAMUS
from .shipped_weights import load_shipped_weights

__all__ = ["NETWORKS", "build_network"]

_TINY_DECODER = {"prompt_dim": 64, "decoder_mlp_dim": 128, "iou_head_hidden_dim": 64}
_TINY_VIT = {"embed_dim": 96, "depth": 4, "num_heads": 4}
_SMALL_VOLUMES = {
    **_TINY_VIT,
    "global_attn_indexes": (1, 3),
    "window_size": 4,
    "prompt_dim": 96,
    "iou_head_hidden_dim": 64,
}

NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "samus_vit_b": (SAMUS, {}),
    "samus_tiny": (
        SAMUS,
        {**_TINY_VIT, **_TINY_DECODER, "global_attn_indexes": (1, 3), "cnn_dims": (16, 32, 64)},
    ),
    # the CNN branch is local, which keeps class-activation maps in place; the decoder compares 16 channels, not 8
    "samus_small": (
        SAMUS,
        {
            **_TINY_VIT,
            "prompt_dim": 128,
            "decoder_mlp_dim": 256,
            "iou_head_hidden_dim": 64,
            "global_attn_indexes": (1, 3),
            "cnn_dims": (16, 32, 64),
            "detail_dim": 32,
        },
    ),
    "sam_vit_b": (SAMViT, {}),
    "medsam_vit_b": (SAMViT, {"normalize": False}),
    "sam_vit_tiny": (SAMViT, {**_TINY_VIT, **_TINY_DECODER, "img_size": 256, "global_attn_indexes": (1, 3)}),
    "efficient_sam_vitt": (EfficientSAM, {}),
    "efficient_sam_vits": (EfficientSAM, {"embed_dim": 384, "num_heads": 6}),
    "efficient_sam_tiny": (
        EfficientSAM,
        {**_TINY_VIT, **_TINY_DECODER, "img_size": 256, "patch_stride": 8, "upscaling_dims": (32, 16)},
    ),
    "sam_med3d": (SAMMed3D, {}),
    "sam_med3d_tiny": (SAMMed3D, {**_SMALL_VOLUMES, "img_size": 64, "patch_size": 8}),
    # masks as fine as the input: shapes within a patch of 8 voxels are hard to learn
    "sam_med3d_small": (SAMMed3D, {**_SMALL_VOLUMES, "img_size": 32, "patch_size": 4, "detail_dim": 16}),
    "vista3d": (PromptableVISTA3D, {}),
    "vista3d_tiny": (PromptableVISTA3D, {"img_size": 32, "embed_dim": 8}),
    # small and convolutional; the weights of click_net_2d, from synthetic images alone, are part of the package
    "click_net_2d": (ClickNet, {"spatial_dims": 2, "img_size": 128}),
    "click_net_3d": (ClickNet, {"spatial_dims": 3, "img_size": 64}),
    # no promptable network: a classifier with ImageNet weights, from the extra "imagenet"
    "efficientnet_lite0": (EfficientNetLite, {}),
}
SAM_LIKE = (SAMUS, SAMViT, EfficientSAM, SAMMed3D)


def build_network(
    name: str, checkpoint: str | Path | None = None, pretrained: bool = True, **overrides: Any
) -> nn.Module:
    """Build a promptable network by name.

    Args:
        name: one of `NETWORKS`: "samus_vit_b", "sam_vit_b", "medsam_vit_b", "efficient_sam_vitt", "efficient_sam_vits",
            "sam_med3d", "vista3d", and the small "samus_tiny", "samus_small", "sam_vit_tiny", "efficient_sam_tiny",
            "sam_med3d_tiny", "sam_med3d_small", "vista3d_tiny", "click_net_2d", "click_net_3d", and the
            classifier "efficientnet_lite0".
        checkpoint: file that `load_checkpoint` reads. Without, "click_net_2d" gets the weights in this package,
            "efficientnet_lite0" those of ImageNet, others random weights, and SAM-like ones `init_click_attention`.
        pretrained: False gives random weights also to networks that have weights in this package, or ask for a
            checkpoint ("click_net_3d"); of no effect on others and with a checkpoint.
        overrides: arguments of the network's class that replace those of the named configuration, for example img_size.

    Returns:
        the network.

    Raises:
        ValueError: when the name is unknown, the checkpoint does not fit, or the weights in this package are missing,
            were changed or do not fit.
        TypeError: when the network has no such argument.
    """
    network_class, arguments = NETWORKS[look_up_option(name, list(NETWORKS))]
    if network_class is EfficientNetLite:
        arguments = {**arguments, "pretrained": pretrained and not checkpoint}
    network = network_class(**{**arguments, **overrides})
    if checkpoint:
        load_checkpoint(network, checkpoint)
        return network
    if isinstance(network, ClickNet) and pretrained:
        load_shipped_weights(network, name)
    return init_click_attention(network) if isinstance(network, SAM_LIKE) else network
