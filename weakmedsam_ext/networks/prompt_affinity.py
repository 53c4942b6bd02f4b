"""Guide map of prompt affinity mining: what a promptable network sees at every node of a grid of points."""

from __future__ import annotations

import torch
from monai.utils import look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

from .affinity_random_walk import plain_tensor
from .prompter import Prompter

__all__ = ["COMBINATIONS", "PromptAffinity", "point_grid"]

COMBINATIONS = ("sum_logits", "mean_logits", "mean_probability", "probabilities")
FEATURES = "features"


def point_grid(img_size: int, grid_size: int) -> Tensor:
    """Single points over the whole image, in rows from the top left.

    Args:
        img_size: side of the square image in pixels.
        grid_size: points along each side, g.

    Returns:
        (g * g, 1, 2), x and y in pixels: ((i + 0.5) * img_size / g, (j + 0.5) * img_size / g).
    """
    centres = (torch.arange(grid_size) + 0.5) * img_size / grid_size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 1, 2)


def _valid_box(valid: Tensor) -> tuple[Tensor, Tensor]:
    """First corner and size, x and y in pixels, of the box around the valid pixels of (B, 1, H, W); (B, 1, 1, 2)."""
    corners, sizes = [], []
    for axis in (2, 3):  # x from the columns that have a valid pixel, y from the rows
        line = valid.flatten(0, 1).any(axis - 1)
        first, last = line.int().argmax(1), line.shape[1] - line.flip(1).int().argmax(1)
        corners.append(first)
        sizes.append(last - first)
    corner, size = (torch.stack(pair, -1)[:, None, None] for pair in (corners, sizes))
    return corner, size


class PromptAffinity(nn.Module):
    """Ask a promptable network "what is here?" all over an image and combine the answers into one guide map.

    Pixels that the answers treat alike belong together (Wang et al., WeakMedSAM, IEEE TMI 2025). The image is encoded
    once; all prompts are answered from that embedding.

    Args:
        backbone: network with `img_size`, `encode(image) -> (features, embedding)` and `decode(embedding, points,
            labels, multimask) -> (mask logits, predicted IoU)`.
        grid_size: points along each side of the image, g.
        combine: how the g * g mask logits become the guide: "sum_logits" (released; the affinity collapses as the grid
            grows), "mean_logits", "mean_probability" (one channel each), or "probabilities" (g * g channels). On five
            LA 2018 cases, with a small network pre-trained on their slices, each at its best beta, pseudo-labels had
            Dice 0.27, 0.29, 0.37 and 0.38 in this order, with random weights 0.33, CAMs alone 0.24. The default is the
            cheaper of the best two; it wants a walk with beta 16 rather than 4.
            "features" asks nothing: the guide are the features of the cells, of which `RegionAffinityLoss` makes the
            walk's affinity with beta 4 the probability that two cells are in one region.
        size: side of the guide map in cells, to which masks are averaged or interpolated.
        scale: which mask is meant: None for the network's single mask, 0, 1 or 2 for one of its three for ambiguous
            prompts.
        prompt_batch_size: prompts that are decoded at once for all images of the batch; all of them unless given.

    Raises:
        ValueError: when a setting is out of range or unknown.
    """

    def __init__(
        self,
        backbone: nn.Module,
        grid_size: int = 4,
        combine: str = "mean_probability",
        size: int = 64,
        scale: int | None = None,
        prompt_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("grid_size", grid_size), ("size", size), ("prompt_batch_size", prompt_batch_size or 1)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, but got {value}.")
        self.backbone = backbone
        self.grid_size = grid_size
        self.combine: str = look_up_option(combine, (*COMBINATIONS, FEATURES))
        self.size = size
        self.scale = None if scale is None else look_up_option(scale, (0, 1, 2))
        self.prompt_batch_size = prompt_batch_size or grid_size**2
        img_size: int = backbone.img_size  # type: ignore[assignment]
        self.points: Tensor
        self.register_buffer("points", point_grid(img_size, grid_size), persistent=False)

    def forward(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """Ask.

        Args:
            image: (B, C, H, W), resized to the input of the network.
            valid: bool (B, 1, H, W), False in padding, which gets no point: the grid lies over the box of the valid
                pixels. All pixels are image without.

        Returns:
            guide maps (B, G, size, size); G is 1, g * g for "probabilities".
        """
        image = plain_tensor(image)
        size: int = self.backbone.img_size  # type: ignore[assignment]
        if image.shape[-1] != size:
            image = F.interpolate(image, (size, size), mode="bilinear", align_corners=False, antialias=True)
            valid = None if valid is None else F.interpolate(plain_tensor(valid).float(), (size, size)) > 0.5
        return self.guide(self.backbone.encode(image)[1], valid)  # type: ignore[operator]

    def guide(self, embedding: Tensor, valid: Tensor | None = None) -> Tensor:
        """Guide maps (B, G, size, size) of images whose embedding is there already; see `forward`."""
        embedding = plain_tensor(embedding)
        if self.combine == FEATURES:
            return self._resized(Prompter(self.backbone).cell_features(embedding).float())
        total, parts = torch.zeros((), device=embedding.device), []
        for points in self._grid(len(embedding), valid).split(self.prompt_batch_size, dim=1):
            answers = self._answers(embedding, points)
            if self.combine == "probabilities":
                parts.append(answers.sigmoid())
            else:
                total = total + (answers.sigmoid() if self.combine == "mean_probability" else answers).sum(
                    1, keepdim=True
                )
        if parts:
            return torch.cat(parts, dim=1)
        return total if self.combine == "sum_logits" else total / len(self.points)

    def _grid(self, batch: int, valid: Tensor | None) -> Tensor:
        """Points (B, g * g, 1, 2) over the images, or over their valid parts."""
        points = self.points.expand(batch, -1, -1, -1)
        if valid is None:
            return points
        corner, size = _valid_box(plain_tensor(valid))
        return corner + points / self.backbone.img_size * size  # type: ignore[operator]

    def _answers(self, embedding: Tensor, points: Tensor) -> Tensor:
        """Mask logits (B, Q, size, size) at points (B, Q, 1, 2)."""
        labels = torch.ones(points.shape[:-1], dtype=torch.long, device=points.device)
        masks, _ = self.backbone.decode(embedding, points, labels, self.scale is not None)  # type: ignore[operator]
        return self._resized(masks[:, :, self.scale or 0].float())

    def _resized(self, maps: Tensor) -> Tensor:
        """Maps (B, C, side, side) on the cells of the guide."""
        if maps.shape[-1] % self.size == 0:
            return F.avg_pool2d(maps, maps.shape[-1] // self.size)
        return F.interpolate(maps, (self.size, self.size), mode="bilinear", align_corners=False)
