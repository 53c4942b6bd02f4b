"""Promptable SAM-like backbones and the networks of WeakMedSAM that stand on them."""

from .affinity_random_walk import AffinityRandomWalk
from .backbones import (
    BACKBONES,
    Backbone,
    backbone_default,
    build_backbone,
    build_prompter,
    check_weights,
    prompter_checkpoint,
)
from .cam_pseudo_labeler import CAMPseudoLabeler, PseudoLabelSteps
from .checkpoints import load_checkpoint
from .click_affinity import ClickAffinity
from .click_dialogue import Answerer, ClickDialogue, NextClick
from .click_initialization import init_click_attention
from .click_net import ClickNet
from .click_segmenter import ClickSegmenter
from .efficient_sam import EfficientSAM
from .efficientnet_lite import EfficientNetLite, EfficientNetLiteEncoder
from .export_prompter import exported_encoder_and_decoder
from .factory import NETWORKS, build_network
from .feature_dropout import dropped_features
from .mask_discriminator import MaskDiscriminator
from .mean_teacher import MeanTeacher
from .prompt_affinity import COMBINATIONS, PromptAffinity, point_grid
from .promptable_network import PromptableNetwork
from .promptable_vista3d import PromptableVISTA3D
from .prompter import SINGLE_CLICK_MASKS, Prompter, check_single_click_mask, resize_masks, select_masks
from .sam_med3d import SAMMed3D
from .sam_vit import SAMViT
from .samus import SAMUS
from .segmenters import SEGMENTERS, build_segmenter
from .specialists import SPECIALISTS, build_specialist
from .thin_vnet import ThinVNet
from .weakmedsam_net import TRAINABLE_POLICIES, WeakMedSAMNet, set_trainable

__all__ = [
    "BACKBONES",
    "COMBINATIONS",
    "NETWORKS",
    "SAMUS",
    "SEGMENTERS",
    "SINGLE_CLICK_MASKS",
    "SPECIALISTS",
    "TRAINABLE_POLICIES",
    "AffinityRandomWalk",
    "Answerer",
    "Backbone",
    "CAMPseudoLabeler",
    "ClickAffinity",
    "ClickDialogue",
    "ClickNet",
    "ClickSegmenter",
    "EfficientNetLite",
    "EfficientNetLiteEncoder",
    "EfficientSAM",
    "MaskDiscriminator",
    "MeanTeacher",
    "NextClick",
    "PromptAffinity",
    "PromptableNetwork",
    "PromptableVISTA3D",
    "Prompter",
    "PseudoLabelSteps",
    "SAMMed3D",
    "SAMViT",
    "ThinVNet",
    "WeakMedSAMNet",
    "backbone_default",
    "build_backbone",
    "build_network",
    "build_prompter",
    "build_segmenter",
    "build_specialist",
    "check_single_click_mask",
    "check_weights",
    "dropped_features",
    "exported_encoder_and_decoder",
    "init_click_attention",
    "load_checkpoint",
    "point_grid",
    "prompter_checkpoint",
    "resize_masks",
    "select_masks",
    "set_trainable",
]
