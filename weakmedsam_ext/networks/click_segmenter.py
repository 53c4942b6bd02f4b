"""A promptable network that maps one tensor to one tensor, as MONAI's inferers and bundles need."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils import convert_to_tensor
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from .prompter import Prompter, check_single_click_mask, resize_masks

__all__ = ["ClickSegmenter"]

NO_CLICK = -10.0  # logit of an item without clicks


class ClickSegmenter(nn.Module):
    """Segment what clicks ask for; the clicks are a second channel beside the image, see `DrawClicksd`.

    Each item is answered on its own: a single click by the mask chosen for it, several clicks by the network's single
    mask, and no click by the logit -10 everywhere.

    `load_checkpoint` reads files of the bare promptable network into this one, and the other way round.

    Args:
        network: promptable network, see `Prompter`; it becomes `backbone`.
        single_click_mask: which mask answers a single click, see `Prompter.answer_single_click`.

    Raises:
        ValueError: when there is no such mask.
    """

    def __init__(self, network: nn.Module, single_click_mask: int | str | None = None) -> None:
        super().__init__()
        self.backbone: Any = network
        self.single_click_mask = check_single_click_mask(single_click_mask)

    def forward(self, image: Tensor) -> Tensor:
        """Segment.

        Args:
            image: (B, 2, *spatial) of the size of the network's input. Channel 0 holds intensities in 0..1, channel 1
                is 1 at clicks on the object, -1 at clicks on the background and anything between elsewhere.

        Returns:
            logits (B, 1, *spatial).

        Raises:
            ValueError: when the shape does not fit, or there is a background click that the network cannot take.
        """
        image = convert_to_tensor(image, track_meta=False)
        dims = self.backbone.spatial_dims
        if image.ndim != dims + 2 or image.shape[1] != 2:
            raise ValueError(f"image: expected (B, 2, *spatial) with {dims} axes, but got {tuple(image.shape)}.")
        picture, clicks = image[:, :1], image[:, 1]
        count = (clicks.abs() == 1).flatten(1).sum(1)
        logits = torch.full_like(picture, NO_CLICK)
        for chosen, ambiguous in ((count == 1, True), (count > 1, False)):
            if chosen.any():
                logits[chosen] = self._answer(picture[chosen], clicks[chosen], ambiguous).to(logits.dtype)
        return logits

    def _answer(self, picture: Tensor, clicks: Tensor, ambiguous: bool) -> Tensor:
        """Logits (B, 1, *spatial) of items that all have clicks."""
        prompter = Prompter(self.backbone)
        points, labels = _points(clicks)
        if (labels == 0).any() and not prompter.takes_background_clicks:
            name = type(self.backbone).__name__
            raise ValueError(f"clicks: {name} takes no background clicks (label 0); leave them out.")
        prompts = points.unsqueeze(1), labels.unsqueeze(1)
        embedding = prompter.encode(picture)
        if ambiguous:
            best = prompter.answer_single_click(embedding, *prompts, self.single_click_mask)[0][:, 0]
        else:
            best = prompter.answer(embedding, *prompts)[0][:, 0]
        return resize_masks(best, picture.shape[2:])


def _points(clicks: Tensor) -> tuple[Tensor, Tensor]:
    """Points (B, N, dims) and labels (B, N) of click maps (B, *spatial), padded with -1."""
    points = [torch.nonzero(item.abs() == 1) for item in clicks]
    labels = [(item[tuple(where.unbind(1))] > 0).long() for item, where in zip(clicks, points, strict=True)]
    return pad_sequence(points, True), pad_sequence(labels, True, -1)
