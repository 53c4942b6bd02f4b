"""The part of ClickNet that answers prompts: maps of the clicks, and a light U-Net on them and the image's features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ClickDecoder", "click_maps", "doubled"]

CELL = 2  # pixels a cell
NUM_MASKS = 4  # the single one and three for ambiguous prompts
REACHES = (2.0, 8.0, 32.0)  # of the maps of distance, in pixels
GAIN = 4.0  # of the distance of features, as in RegionAffinityLoss
MAPS = 2 * (len(REACHES) + 1) + 2
# what the maps weigh in the logits of an untrained network, in their order and then a constant: it answers by a blob of
# what is like the object clicks; one that answers by nothing at first is slow to learn in volumes
INITIAL_WEIGHTS = (0.0, 0.0, 2.0, 4.0, 0.0, -2.0, 0.0, -4.0, 4.0, -2.0, -3.5)
HIDDEN = 64
GROUPS = 8
CPU_CELLS = 1 << 15  # a processor answers as many prompts at once as have so many cells: more leave its cache


def click_maps(keys: Tensor, points: Tensor, point_labels: Tensor) -> Tensor:
    """Where the clicks are and what is like them.

    Args:
        keys: features of the cells (B, C, *grid).
        points: (B, Q, N, dims) in array index order, in pixels.
        point_labels: (B, Q, N), 1 object, 0 background, others do not count.

    Returns:
        float32 (B, Q, 8, *grid) in 0..1. For object clicks and then for background clicks: a Gaussian of the distance
        to the nearest click, two exponentials of it, and exp(-4 * mean_c |key_c(cell) - key_c(click)|) for the most
        similar click; 0 without clicks.
    """
    grid = keys.shape[2:]
    cells, similarity = _gathered(keys, points)
    distance = torch.zeros((), device=keys.device)
    for axis, length in enumerate(grid):
        centre = CELL * (torch.arange(length, device=keys.device) + 0.5)
        offset = points[..., axis, None].float() + 0.5 - centre  # (B, Q, N, length)
        distance = distance + offset.square().reshape(
            *offset.shape[:3], *(length if other == axis else 1 for other in range(len(grid)))
        )
    maps = []
    for label in (1, 0):
        counts = (point_labels == label).reshape(*point_labels.shape, *(1,) * len(grid))
        near = distance.masked_fill(~counts, 1e8).amin(2)  # (B, Q, *grid)
        reach = (near + 1e-6).sqrt()
        maps += [torch.exp(-near / (2 * REACHES[0] ** 2)), *(torch.exp(-reach / one) for one in REACHES[1:])]
        maps.append(similarity.masked_fill(~counts, 0).amax(2))
    return torch.stack(maps, dim=2)


def _gathered(keys: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Keys at the clicks (B, Q, N, C), and similarity of every cell to them (B, Q, N, *grid)."""
    clicked = _at_clicks(keys, points)
    distance = torch.cdist(clicked.flatten(1, 2).float(), keys.flatten(2).mT.float().contiguous(), p=1.0)
    similarity = torch.exp(-GAIN / keys.shape[1] * distance)
    return clicked, similarity.unflatten(1, points.shape[1:3]).unflatten(-1, keys.shape[2:])


def _at_clicks(maps: Tensor, points: Tensor) -> Tensor:
    """Values (B, Q, N, C) of (B, C, *grid) in the cells of the clicks."""
    where = [
        (axis / CELL).long().clamp(0, length - 1)
        for axis, length in zip(points.unbind(-1), maps.shape[2:], strict=True)
    ]
    batch = torch.arange(len(maps), device=maps.device)[:, None, None]
    index: tuple[Any, ...] = (batch, slice(None), *where)
    return maps[index]


def doubled(maps: Tensor) -> Tensor:
    """Interpolate (R, C, *grid) linearly to (R, C, *2 grid), as `F.interpolate` does, without its slow gradient."""
    for axis in range(2, maps.ndim):
        last = maps.shape[axis] - 1
        before = torch.cat([maps.narrow(axis, 0, 1), maps.narrow(axis, 0, last)], dim=axis)
        after = torch.cat([maps.narrow(axis, 1, last), maps.narrow(axis, last, 1)], dim=axis)
        both = torch.stack([torch.lerp(maps, before, 0.25), torch.lerp(maps, after, 0.25)], dim=axis + 1)
        maps = both.flatten(axis, axis + 1)
    return maps


class ClickDecoder(nn.Module):
    """Answers Q prompt sets on each of B embeddings.

    Args:
        spatial_dims: 2 or 3.
        coarse_dim: channels of the features of cells.
        key_dim: channels of the features that are compared.
        fine_dim: channels of the features of pixels.
        widths: channels at each resolution, from that of the cells, halved from one to the next.
    """

    def __init__(self, spatial_dims: int, coarse_dim: int, key_dim: int, fine_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        # a convolution of features and maps together, of which the part of the features is done once an image
        self.from_image = convolution(coarse_dim + key_dim, widths[0], 3, padding=1)
        self.from_maps = convolution(MAPS, widths[0], 3, padding=1, bias=False)
        steps = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(convolution(before, after, 3, 2, padding=1) for before, after in steps)
        self.down_blocks = nn.ModuleList(PromptBlock(spatial_dims, after) for _, after in steps)
        self.up = nn.ModuleList(convolution(after, before, 1) for before, after in reversed(steps))
        self.up_blocks = nn.ModuleList(PromptBlock(spatial_dims, before) for before, _ in reversed(steps))
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.clicked = nn.Sequential(
            nn.Linear(2 * (coarse_dim + key_dim + 1), HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU()
        )
        self.to_pixels = convolution(widths[0], 2 * fine_dim, 1)
        self.fine = convolution(fine_dim, 2 * fine_dim, 3, padding=1)
        self.masks = convolution(2 * fine_dim, NUM_MASKS, 1)
        self.direct = convolution(MAPS, NUM_MASKS, 1)
        with torch.no_grad():
            *weights, constant = INITIAL_WEIGHTS
            weight = self.direct.get_parameter("weight")
            weight.copy_(torch.tensor(weights).view(1, MAPS, *(1,) * spatial_dims).expand_as(weight))
            self.direct.get_parameter("bias").fill_(constant)
        self.iou = IoUHead(widths[0])

    def forward(
        self,
        coarse: Tensor,
        keys: Tensor,
        fine: Tensor,
        points: Tensor,
        point_labels: Tensor,
        multimask: bool,
        mask_logits: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts.

        Args:
            coarse: features of cells (B, C, *grid).
            keys: features that are compared, (B, K, *grid).
            fine: features of pixels (B, F, *2 grid).
            points: (B, Q, N, dims) in array index order, in pixels.
            point_labels: (B, Q, N).
            multimask: three masks instead of one.
            mask_logits: (B, Q, 1, *2 grid) or None.

        Returns:
            logits (B, Q, M, *2 grid) and predicted IoU (B, Q, M).
        """
        batch, queries = points.shape[:2]
        image, pixels = self.from_image(torch.cat([coarse, keys], dim=1)), self.fine(fine)
        condition = self.clicked(self._clicked(torch.cat([coarse, keys], dim=1), points, point_labels))
        at_once = queries
        if coarse.device.type == "cpu":
            at_once = max(1, CPU_CELLS // (batch * keys[0, 0].numel()))
        parts = []
        for part in torch.arange(queries, device=points.device).split(at_once):
            maps = click_maps(keys, points[:, part], point_labels[:, part])
            earlier = self._earlier(maps, None if mask_logits is None else mask_logits[:, part])
            maps = torch.cat([maps, earlier], dim=2).to(image.dtype)
            x = image.unsqueeze(1) + self.from_maps(maps.flatten(0, 1)).unflatten(0, (batch, -1))
            parts.append(self._answer(x, pixels, self.direct(maps.flatten(0, 1)), condition[:, part], multimask))
        masks, iou = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        return masks, iou

    def _clicked(self, features: Tensor, points: Tensor, point_labels: Tensor) -> Tensor:
        """Mean features at object and at background clicks, and whether there are any, (B, Q, 2 * (C + 1))."""
        values = _at_clicks(features, points)
        values = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        means = []
        for label in (1, 0):
            counts = (point_labels == label).unsqueeze(-1).to(values.dtype)
            means.append((values * counts).sum(2) / counts.sum(2).clamp(min=1))
        return torch.cat(means, dim=-1)

    @staticmethod
    def _earlier(maps: Tensor, mask_logits: Tensor | None) -> Tensor:
        """The last mask and whether there is one, (B, Q, 2, *grid)."""
        if mask_logits is None:
            return torch.zeros_like(maps[:, :, :2])
        pool = F.avg_pool2d if maps.ndim == 5 else F.avg_pool3d
        mask = pool(mask_logits.float().sigmoid().flatten(0, 1), CELL).view_as(maps[:, :, :1])
        return torch.cat([mask, torch.ones_like(mask)], dim=2)

    def _answer(
        self, x: Tensor, pixels: Tensor, direct: Tensor, condition: Tensor, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Masks and IoU of (B, Q, W, *grid), given what the maps alone say, (B * Q, masks, *grid)."""
        batch, queries = x.shape[:2]
        x, condition = F.gelu(self.norm(x.flatten(0, 1))), condition.flatten(0, 1)
        skips = []
        for down, block in zip(self.down, self.down_blocks, strict=True):
            skips.append(x)
            x = block(down(x), condition)
        for up, block in zip(self.up, self.up_blocks, strict=True):
            x = F.interpolate(up(x), scale_factor=2.0)
            x = block(x + skips.pop(), condition)
        wide = F.gelu(doubled(self.to_pixels(x)).unflatten(0, (batch, queries)) + pixels.unsqueeze(1))
        wanted = slice(1, NUM_MASKS) if multimask else slice(0, 1)
        weight, bias = self.masks.get_parameter("weight")[wanted], self.masks.get_parameter("bias")[wanted]
        convolve = F.conv2d if wide.ndim == 5 else F.conv3d
        masks = convolve(wide.flatten(0, 1), weight, bias) + doubled(direct[:, wanted])
        iou = self.iou(x, masks, wanted)
        return masks.unflatten(0, (batch, queries)), iou.unflatten(0, (batch, queries))


class PromptBlock(nn.Module):
    """Residual block whose activations the clicked features scale and shift."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        convolution = Conv[Conv.CONV, spatial_dims]
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, channels), nn.GroupNorm(GROUPS, channels)
        self.conv1 = convolution(channels, channels, 3, padding=1)
        self.conv2 = convolution(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(HIDDEN, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (R, C, *grid) to the same shape, given (R, HIDDEN)."""
        scale, shift = self.modulation(condition).reshape(len(x), -1, *(1,) * (x.ndim - 2)).chunk(2, dim=1)
        y = self.conv1(F.gelu(self.norm1(x)))
        return x + self.conv2(F.gelu(self.norm2(y) * (1 + scale) + shift))


class IoUHead(nn.Module):
    """Predicts the IoU of masks from the features in and around them; the masks learn nothing from it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.which = nn.Embedding(NUM_MASKS, HIDDEN)
        self.first = nn.Linear(2 * channels + 2, HIDDEN)
        self.second = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 1))

    def forward(self, features: Tensor, masks: Tensor, wanted: slice) -> Tensor:
        """IoU (R, M) in 0..1 of logits (R, M, *2 grid), whose cells have features (R, C, *grid)."""
        pool = F.avg_pool2d if masks.ndim == 4 else F.avg_pool3d
        inside = pool(masks.detach().float().sigmoid(), CELL).flatten(2)  # (R, M, cells)
        area = inside.sum(2, keepdim=True)
        flat = features.float().flatten(2).mT  # (R, cells, C)
        within = inside @ flat / (area + 1)
        around = flat.mean(1, keepdim=True).expand_as(within)
        sure = inside.square().sum(2, keepdim=True) / (area + 1e-3)
        share = (area / inside.shape[2] + 1e-4).log() / 4
        hidden = self.first(torch.cat([within, around, sure, share], dim=2).to(features.dtype))
        return self.second(hidden + self.which.weight[wanted]).squeeze(2).sigmoid()
