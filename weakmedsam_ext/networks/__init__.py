"""Promptable SAM-like backbones and the networks of WeakMedSAM that stand on them."""

from .affinity_random_walk import AffinityRandomWalk
from .cam_pseudo_labeler import CAMPseudoLabeler, PseudoLabelSteps
from .checkpoints import load_checkpoint
from .click_affinity import ClickAffinity
from .click_initialization import aim_at_clicks
from .click_net import ClickNet
from .click_segmenter import ClickSegmenter
from .efficient_sam import EfficientSAM
from .factory import NETWORKS, build_network
from .mask_discriminator import MaskDiscriminator
from .mean_teacher import MeanTeacher
from .prompt_affinity import COMBINATIONS, PromptAffinity, point_grid
from .prompter import FIRST_MASKS, Prompter, check_first_mask, select_masks
from .sam_med3d import SAMMed3D
from .sam_vit import SAMViT
from .samus import SAMUS
from .thin_vnet import ThinVNet
from .weakmedsam_net import TRAINABLE_POLICIES, WeakMedSAMNet, set_trainable

__all__ = [
    "COMBINATIONS",
    "FIRST_MASKS",
    "NETWORKS",
    "SAMUS",
    "TRAINABLE_POLICIES",
    "AffinityRandomWalk",
    "CAMPseudoLabeler",
    "ClickAffinity",
    "ClickNet",
    "ClickSegmenter",
    "EfficientSAM",
    "MaskDiscriminator",
    "MeanTeacher",
    "PromptAffinity",
    "Prompter",
    "PseudoLabelSteps",
    "SAMMed3D",
    "SAMViT",
    "ThinVNet",
    "WeakMedSAMNet",
    "aim_at_clicks",
    "build_network",
    "check_first_mask",
    "load_checkpoint",
    "point_grid",
    "select_masks",
    "set_trainable",
]
