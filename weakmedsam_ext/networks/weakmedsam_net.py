"""Classification network of WeakMedSAM, whose class-activation maps locate structures from image-level labels."""

from __future__ import annotations

import re
from typing import Any

from monai.utils import look_up_option
from torch import Tensor, nn

from .samus import is_samus_addition
from .window_attention import is_global_attention

__all__ = ["TRAINABLE_POLICIES", "WeakMedSAMNet", "set_trainable"]

TRAINABLE_POLICIES = ("samus", "heads", "all")
HEADS = ("class_head.", "subclass_head.")
NUM_LAST_BLOCKS = 4  # of the ViT that policy "samus" trains


class WeakMedSAMNet(nn.Module):
    """Class and sub-class heads on the features of a SAM-like backbone (Wang et al., IEEE TMI 2025).

    Both heads are 1x1 convolutions without bias on globally averaged features. The class head on the features before
    averaging gives the class-activation maps.

    Args:
        backbone: network with `feature_dim` E and `encode(image) -> (features (B, E, h, w), embedding)`; also
            `encode_features(image)` if the features alone are cheaper.
        num_classes: K.
        num_subclasses: S, clusters a class.
        trainable: which parameters train, see `set_trainable`.

    Raises:
        ValueError: when a number is below 1 or the policy unknown.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, num_subclasses: int, trainable: str = "all") -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("num_subclasses", num_subclasses)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, but got {value}.")
        self.num_classes = num_classes
        self.num_subclasses = num_subclasses
        self.backbone = backbone
        feature_dim: int = backbone.feature_dim  # type: ignore[assignment]
        self.class_head = nn.Conv2d(feature_dim, num_classes, 1, bias=False)
        self.subclass_head = nn.Conv2d(feature_dim, 1 + num_classes * num_subclasses, 1, bias=False)
        set_trainable(self, trainable)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            image: (B, 1 or 3, H, W), intensities in 0..1.

        Returns:
            class logits (B, K) and sub-class logits (B, 1 + K * S): entry 0 is "no class here", entry 1 + k * S + s is
            cluster s of class k.
        """
        pooled = self._features(image).mean((2, 3), keepdim=True)
        return self.class_head(pooled).flatten(1), self.subclass_head(pooled).flatten(1)

    def cam(self, image: Tensor) -> Tensor:
        """Class-activation maps (B, K, h, w) of images (B, 1 or 3, H, W): no ReLU, not scaled."""
        return self.class_head(self._features(image))

    def _features(self, image: Tensor) -> Tensor:
        backbone: Any = self.backbone
        if hasattr(backbone, "encode_features"):  # without what only masks need
            return backbone.encode_features(image)
        return backbone.encode(image)[0]


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
