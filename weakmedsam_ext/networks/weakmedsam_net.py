"""Classification network of WeakMedSAM, whose class-activation maps locate structures from image-level labels."""

from __future__ import annotations

import re
from typing import Any

import torch
from monai.utils import look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

from .samus import is_samus_addition
from .window_attention import is_global_attention

__all__ = ["POOLINGS", "TRAINABLE_POLICIES", "WeakMedSAMNet", "encode_features", "pooled_logits", "set_trainable"]

POOLINGS = ("mean", "topk", "logsumexp")
TRAINABLE_POLICIES = ("samus", "heads", "all")
HEADS = ("class_head.", "subclass_head.")
NUM_LAST_BLOCKS = 4  # of the ViT that policy "samus" trains


class WeakMedSAMNet(nn.Module):
    """Class and sub-class heads on the features of a SAM-like backbone (Wang et al., IEEE TMI 2025).

    Both heads are 1x1 convolutions. Without pooling, the class head on the features gives the class-activation maps,
    which are pooled into the class logits. The sub-class head sees averaged features, as published.

    Args:
        backbone: network with `feature_dim` E and `encode(image) -> (features (B, E, h, w), embedding)`, or
            `encode_features(image)`.
        num_classes: K.
        num_subclasses: S, clusters a class.
        trainable: which parameters train, see `set_trainable`.
        pooling: of the maps, see `pooled_logits`: "mean", as published, favours classes that tell by the whole slice;
            "topk" and "logsumexp" look for a place that tells.
        pool_fraction: share of the cells that "topk" averages.
        head_bias: whether the class head has a bias, which makes 0 of its map the threshold of the class; published
            without.

    Raises:
        ValueError: when a number is out of range, or an option unknown.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        num_subclasses: int,
        trainable: str = "all",
        pooling: str = "mean",
        pool_fraction: float = 0.04,
        head_bias: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("num_subclasses", num_subclasses)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, but got {value}.")
        if not 0 < pool_fraction <= 1:
            raise ValueError(f"pool_fraction: expected more than 0 and at most 1, but got {pool_fraction}.")
        self.num_classes = num_classes
        self.num_subclasses = num_subclasses
        self.backbone = backbone
        self.pooling: str = look_up_option(pooling, POOLINGS)
        self.pool_fraction = pool_fraction
        feature_dim: int = backbone.feature_dim  # type: ignore[assignment]
        self.class_head = nn.Conv2d(feature_dim, num_classes, 1, bias=head_bias)
        self.subclass_head = nn.Conv2d(feature_dim, 1 + num_classes * num_subclasses, 1, bias=False)
        set_trainable(self, trainable)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            image: (B, C, H, W), intensities in 0..1.
            valid: (B, 1, H, W), 0 in the padding, where "topk" and "logsumexp" do not look; all is image without.

        Returns:
            class logits (B, K) and sub-class logits (B, 1 + K * S): entry 0 is "no class here", entry 1 + k * S + s is
            cluster s of class k.
        """
        features = encode_features(self.backbone, image)
        pooled = features.mean((2, 3), keepdim=True)
        subclass = self.subclass_head(pooled).flatten(1)
        if self.pooling == "mean":
            return self.class_head(pooled).flatten(1), subclass
        cells = (
            None
            if valid is None
            else F.adaptive_avg_pool2d(valid.float(), (features.shape[2], features.shape[3])) >= 0.5
        )
        return pooled_logits(self.class_head(features), self.pooling, self.pool_fraction, cells), subclass

    def cam(self, image: Tensor) -> Tensor:
        """Class-activation maps (B, K, h, w) of images (B, C, H, W): no ReLU, not scaled."""
        return self.class_head(encode_features(self.backbone, image))

    def parameter_groups(self, learning_rate: float, head_factor: float = 1.0) -> list[dict[str, Any]]:
        """Parameters that train, for an optimizer: those of the heads have `head_factor` times the learning rate."""
        named = [(name.startswith(HEADS), one) for name, one in self.named_parameters() if one.requires_grad]
        groups = [
            {"params": [one for is_head, one in named if is_head], "lr": learning_rate * head_factor},
            {"params": [one for is_head, one in named if not is_head], "lr": learning_rate},
        ]
        return [group for group in groups if group["params"]]


def encode_features(backbone: Any, image: Tensor) -> Tensor:
    """Features (B, E, h, w) of a backbone, without what only masks need where it can do so."""
    return backbone.encode_features(image) if hasattr(backbone, "encode_features") else backbone.encode(image)[0]


def pooled_logits(maps: Tensor, pooling: str, fraction: float = 0.04, valid: Tensor | None = None) -> Tensor:
    """Pool class-activation maps into class logits.

    Args:
        maps: (B, K, h, w).
        pooling: "mean" of all cells; "topk", the mean of the highest ones; "logsumexp", log(mean(exp(x))), a smooth
            maximum (Pinheiro and Collobert, CVPR 2015).
        fraction: share of the valid cells that "topk" averages, at least one cell.
        valid: bool (B, 1, h, w), cells that take part.

    Returns:
        (B, K).
    """
    valid = torch.ones_like(maps[:, :1], dtype=torch.bool) if valid is None else valid
    counts = valid.flatten(2).sum(-1).clamp_min(1)  # (B, 1)
    flat = maps.flatten(2)
    if pooling == "mean":
        return (flat * valid.flatten(2)).sum(-1) / counts
    flat = flat.masked_fill(~valid.flatten(2), -torch.inf)
    if pooling == "logsumexp":
        return torch.logsumexp(flat, -1) - counts.log()
    number = (fraction * counts).long().clamp_min(1)  # (B, 1)
    highest = flat.topk(int(number.max()), dim=-1).values
    taken = torch.arange(highest.shape[-1], device=maps.device) < number.unsqueeze(-1)
    return highest.masked_fill(~taken, 0.0).sum(-1) / number


def set_trainable(network: nn.Module, policy: str) -> list[str]:
    """Choose which parameters of a CAM network train; the others are frozen.

    Args:
        network: a `WeakMedSAMNet`.
        policy: "samus" trains, as released, the heads, the last four transformer blocks, the relative positions of the
            global blocks and all that SAMUS adds to SAM; "heads" the two heads; "all" everything.

    Returns:
        names of the parameters that train.

    Raises:
        ValueError: when the policy is unknown.
    """
    look_up_option(policy, TRAINABLE_POLICIES)
    trained: tuple[str, ...] = {"all": ("",), "heads": HEADS, "samus": HEADS + _released_prefixes(network)}[policy]
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name.startswith(trained) or (policy == "samus" and is_samus_addition(name))
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


def _released_prefixes(network: nn.Module) -> tuple[str, ...]:
    """Prefixes of the parameters of SAM's own encoder that the released WeakMedSAM trains."""
    blocks = [name for name, _ in network.named_modules() if re.search(r"image_encoder\.blocks\.\d+$", name)]
    attention = [name for name, module in network.named_modules() if is_global_attention(module)]
    return (*(f"{name}." for name in blocks[-NUM_LAST_BLOCKS:]), *(f"{name}.rel_pos_" for name in attention))
