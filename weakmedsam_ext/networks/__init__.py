"""Promptable SAM-like backbones and the networks of WeakMedSAM that stand on them."""

from .checkpoints import load_checkpoint
from .efficient_sam import EfficientSAM
from .factory import NETWORKS, build_network
from .sam_med3d import SAMMed3D
from .sam_vit import SAMViT
from .samus import SAMUS
from .weakmedsam_net import TRAINABLE_POLICIES, WeakMedSAMNet, set_trainable

__all__ = [
    "NETWORKS",
    "SAMUS",
    "TRAINABLE_POLICIES",
    "EfficientSAM",
    "SAMMed3D",
    "SAMViT",
    "WeakMedSAMNet",
    "build_network",
    "load_checkpoint",
    "set_trainable",
]
