"""What belongs to each backbone of WeakMedSAM, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.utils import look_up_option
from torch import nn

from .factory import NETWORKS, build_network

__all__ = [
    "BACKBONES",
    "CLASSIFIER",
    "Backbone",
    "backbone_default",
    "build_backbone",
    "build_prompter",
    "check_weights",
    "prompter_checkpoint",
]

CLASSIFIER = "classifier"  # as prompter: the trained backbone of the classifier, as published


@dataclass(frozen=True)
class Backbone:
    """Defaults of a network as classifier and as prompter.

    Args:
        img_size: side of the slices in pixels, as classifier.
        prompter: network that is prompted for its maps.
        prompt_size: side of the image in pixels that it is prompted with; that of the slices unless given.
        cam_learning_rate: as classifier.
        trainable: what trains, see `set_trainable`.
        has_weights: whether it comes with trained weights; others need a checkpoint or pre-training.
        cam_scales: sizes of the image whose class-activation maps are averaged, see `CAMPseudoLabeler`; most networks
            take one size only.
    """

    img_size: int
    prompter: str
    prompt_size: int | None = None
    cam_learning_rate: float = 5e-4
    trainable: str = "all"
    has_weights: bool = False
    cam_scales: tuple[float, ...] = (1.0,)


# The stride and the sizes of each network are in `NETWORKS`. What SAMUS adds to a SAM file starts untrained, so the
# plain network of that file is prompted. Published networks are prompted at the size that they were trained at.
BACKBONES = {
    "samus_vit_b": Backbone(256, "sam_vit_b", None, 1e-4, "samus"),
    "sam_vit_b": Backbone(512, "sam_vit_b", 1024, 1e-4, "samus"),
    "medsam_vit_b": Backbone(512, "medsam_vit_b", 1024, 1e-4, "samus"),
    "efficient_sam_vitt": Backbone(512, "efficient_sam_vitt", 1024, 1e-4, "samus"),
    "efficient_sam_vits": Backbone(512, "efficient_sam_vits", 1024, 1e-4, "samus"),
    "samus_small": Backbone(128, "samus_small"),
    "samus_tiny": Backbone(128, "samus_tiny"),
    "sam_vit_tiny": Backbone(256, "sam_vit_tiny"),
    "efficient_sam_tiny": Backbone(128, "efficient_sam_tiny"),
    "click_net_2d": Backbone(128, "click_net_2d", has_weights=True),
    "efficientnet_lite0": Backbone(
        160, "click_net_2d", cam_learning_rate=3e-4, has_weights=True, cam_scales=(1.0, 1.4)
    ),
}


def backbone_default(name: str, setting: str) -> Any:
    """A setting of a backbone in `BACKBONES`; None for `CLASSIFIER`, which has those of the classifier.

    Raises:
        ValueError: when there is no such backbone.
    """
    return None if name == CLASSIFIER else getattr(BACKBONES[look_up_option(name, list(BACKBONES))], setting)


def prompter_checkpoint(prompter: str, backbone: str, checkpoint: str | Path | None) -> str | Path | None:
    """Checkpoint of the prompted network: that of the classifier where both read the same file, else none."""
    same_file = prompter in (backbone, backbone_default(backbone, "prompter")) and _can_be_prompted(backbone)
    return checkpoint if same_file else None


def check_weights(name: str, checkpoint: str | Path | None, pretrain: bool = False, setting: str = "backbone") -> None:
    """Check that a network starts from trained weights.

    Args:
        name: one of `BACKBONES`, or `CLASSIFIER`.
        checkpoint: file of its weights.
        pretrain: whether it is pre-trained first.
        setting: that names it, for the error.

    Raises:
        ValueError: when it would start from random weights.
    """
    if not (checkpoint or pretrain or name == CLASSIFIER or backbone_default(name, "has_weights")):
        having = " or ".join(repr(other) for other, known in BACKBONES.items() if known.has_weights)
        option = "checkpoint" if setting == "backbone" else f"{setting}_checkpoint"
        raise ValueError(
            f"{setting}: {name!r} has no weights to start from; give their file as {option}, pre-train it by "
            f"pretrain=True, or choose {having}, which come with weights."
        )


def build_backbone(name: str, checkpoint: str | Path | None = None, img_size: int | None = None) -> nn.Module:
    """Build the backbone of a classifier, with trained weights.

    Args:
        name: one of `BACKBONES`.
        checkpoint: see `build_network`.
        img_size: side of the slices in pixels; that of the table unless given.

    Raises:
        ValueError: when it would have random weights, see `check_weights`, or the checkpoint does not fit.
        ImportError: when it needs a package that is missing.
    """
    return _with_weights(name, checkpoint, img_size, "backbone")


def build_prompter(
    name: str, cam_network: Any, checkpoint: str | Path | None = None, img_size: int | None = None
) -> nn.Module:
    """Build the network that is prompted for the affinity.

    Args:
        name: one of `BACKBONES`, or `CLASSIFIER` for the backbone of `cam_network`, whose image is then encoded once.
        cam_network: a `WeakMedSAMNet`.
        checkpoint: see `build_network`.
        img_size: side of the image that it is prompted with in pixels.

    Raises:
        ValueError: when it cannot be prompted, or would have random weights.
    """
    own = name == CLASSIFIER
    if not (hasattr(cam_network.backbone, "decode") if own else _can_be_prompted(name)):
        raise ValueError(f"prompter: {name!r} cannot be prompted here; choose another one, such as 'click_net_2d'.")
    return cam_network.backbone if own else _with_weights(name, checkpoint, img_size, "prompter")


def _can_be_prompted(name: str) -> bool:
    return hasattr(NETWORKS[look_up_option(name, list(BACKBONES))][0], "decode")


def _with_weights(name: str, checkpoint: str | Path | None, img_size: int | None, setting: str) -> nn.Module:
    """Build a network, unless it would have random weights."""
    check_weights(name, checkpoint, setting=setting)
    return build_network(name, checkpoint, img_size=img_size or backbone_default(name, "img_size"))
