"""MONAI's VISTA3D (He et al., CVPR 2025) as a promptable network: points on CT volumes."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets.vista3d import vista3d132
from torch import Tensor

from .checks import check_image, check_points
from .promptable_network import PromptableNetwork

__all__ = ["PromptableVISTA3D"]

STRIDE = 16
STABILITY_OFFSET = 1.0  # of logits, as in Segment Anything's mask generator


class PromptableVISTA3D(PromptableNetwork):
    """The point branch of VISTA3D behind the interface of SAM-like networks; reads MONAI's own weights of `vista3d132`.

    Clicks are asked about as "zero-shot" structures, which are none of the 132 classes that VISTA3D knows by name. It
    takes no mask prompts, gives one mask (`multimask` repeats it three times) and predicts no IoU: the stability score
    of Segment Anything (Kirillov et al., ICCV 2023) stands for it, the IoU of the mask cut at a logit of 1 and at -1.

    Args:
        img_size: side of the cubic input in voxels, a multiple of 16.
        embed_dim: channels of the features, a multiple of 8; 48 as published.

    Raises:
        ValueError: when a size is no such multiple.
    """

    spatial_dims = 3
    takes_masks = False
    takes_prompt_sets = True
    mask_scale = 1

    def __init__(self, img_size: int = 128, embed_dim: int = 48) -> None:
        super().__init__()
        for name, value, unit in (("img_size", img_size, STRIDE), ("embed_dim", embed_dim, 8)):
            if value < unit or value % unit:
                raise ValueError(f"{name}: expected a positive multiple of {unit}, but got {value}.")
        self.img_size = img_size
        self.feature_dim = embed_dim
        network = vista3d132(embed_dim)
        # named as in the published file, whose class head `load_checkpoint` leaves out
        self.image_encoder, self.point_head = network.image_encoder, network.point_head

    def encode(self, volume: Tensor) -> Tensor:
        """Encode volumes.

        Args:
            volume: (B, 1, D, H, W). The published weights expect CT with voxels of 1.5 mm whose intensities between
                -964 and 1054 HU are scaled to 0..1.

        Returns:
            embedding (B, P, D, H, W).

        Raises:
            ValueError: when shape or values do not fit.
        """
        check_image(volume, (self.img_size,) * 3, (1,))
        return self.image_encoder(volume, with_point=True, with_label=False)[0]

    def cell_features(self, embedding: Tensor) -> Tensor:
        """Features of every voxel (B, P, D, H, W), which are the embedding."""
        return embedding

    def decode(
        self,
        embedding: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool = False,
        mask_logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            embedding: from `encode`.
            points: (B, Q, N, 3), Q sets of N points on each volume in array index order, in voxels.
            point_labels: (B, Q, N), 1 object, 0 background, -1 padding.
            multimask: three times the same mask instead of one.
            mask_logits: not taken.

        Returns:
            mask logits (B, Q, M, D, H, W) and their stability (B, Q, M) in 0..1, M = 3 or 1.

        Raises:
            ValueError: when shapes or values do not fit, or there is a mask prompt.
        """
        if mask_logits is not None:
            raise ValueError("mask_logits: VISTA3D takes no mask prompts; leave them out.")
        check_points(points, point_labels, (len(embedding), None), embedding.shape[2:], (-1, 0, 1))
        head: Any = self.point_head
        unknown_class = points.new_full(points.shape[1:2], head.last_supported + 1, dtype=torch.long)
        masks = torch.stack(
            [
                head(features[None], places.float(), labels, class_vector=unknown_class)
                for features, places, labels in zip(embedding, points, point_labels, strict=True)
            ]
        )
        count = 3 if multimask else 1
        return masks.expand(-1, -1, count, -1, -1, -1), _stability(masks).expand(-1, -1, count)

    def forward(
        self, volume: Tensor, points: Tensor, point_labels: Tensor, multimask: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Encode the volumes, then answer the prompts; see `encode` and `decode`."""
        return self.decode(self.encode(volume), points, point_labels, multimask)


def _stability(logits: Tensor) -> Tensor:
    """Stability score of masks (B, Q, M, D, H, W), (B, Q, M); 0 where a mask is empty at both cuts."""
    smaller, larger = (
        (logits > cut).flatten(3).sum(-1, dtype=torch.float32) for cut in (STABILITY_OFFSET, -STABILITY_OFFSET)
    )
    return smaller / larger.clamp(min=1)
