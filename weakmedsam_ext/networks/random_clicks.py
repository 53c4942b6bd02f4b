"""Clicks at random places, for training a promptable network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["ClickAnswers", "RandomClicks"]


class ClickAnswers(NamedTuple):
    """What a promptable network answers to clicks.

    Attributes:
        masks: logits (B, Q, M, h, w), M = 3 masks for an ambiguous click or 1.
        iou: predicted IoU of each mask, (B, Q, M).
        points: (B, Q, 2), x and y of the clicks in pixels of the image.
    """

    masks: Tensor
    iou: Tensor
    points: Tensor


class RandomClicks(nn.Module):
    """Encode images and answer one positive click at each of several random places.

    With probability `single_probability` a batch asks for the network's single mask instead of the three for an
    ambiguous click, so that both learn. Random numbers come from PyTorch's generator.

    Args:
        backbone: network with `img_size`, `encode` and `decode`, for example `EfficientSAM`.
        num_clicks: clicks an image, Q.
        single_probability: in 0..1.

    Raises:
        ValueError: when a setting is out of range.
    """

    def __init__(self, backbone: nn.Module, num_clicks: int = 8, single_probability: float = 0.25) -> None:
        super().__init__()
        if num_clicks < 1:
            raise ValueError(f"num_clicks: expected at least 1, but got {num_clicks}.")
        if not 0 <= single_probability <= 1:
            raise ValueError(f"single_probability: expected a value in 0..1, but got {single_probability}.")
        self.backbone = backbone
        self.num_clicks = num_clicks
        self.single_probability = single_probability

    def forward(self, image: Tensor) -> ClickAnswers:
        """Answer random clicks on images (B, 1 or 3, H, W)."""
        size: int = self.backbone.img_size  # type: ignore[assignment]
        # drawn on the CPU: the same seed clicks at the same places on every device
        points = torch.randint(size, (len(image), self.num_clicks, 2)).to(image.device)
        multimask = bool(torch.rand(()) >= self.single_probability)
        labels = torch.ones(points.shape[:2], dtype=torch.long, device=image.device)
        embedding = self.backbone.encode(image)[1]  # type: ignore[operator]
        prompts = (points.to(image.dtype).unsqueeze(2), labels.unsqueeze(2))
        masks, iou = self.backbone.decode(embedding, *prompts, multimask)  # type: ignore[operator]
        return ClickAnswers(masks, iou, points)
