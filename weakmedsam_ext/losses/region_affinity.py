"""Affinity loss: places of one region get similar features, places of different regions do not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["RegionAffinityLoss"]


class RegionAffinityLoss(nn.Module):
    """Binary cross-entropy of the affinity of random pairs of places, after AffinityNet (Ahn and Kwak, CVPR 2018).

    The affinity of places i and j is exp(-gain * mean_c |f_ci - f_cj|). Its target is the share of the scales at which
    both are in one region. The first place of a pair is uniform in the image, the second uniform within `reach` of it,
    rounded to a cell and clipped to the image.

    The loss trains the encoder of a promptable network directly. From clicks alone the encoder learns regions only
    after the decoder has learnt to use its features.

    Args:
        num_pairs: pairs an item.
        reach: largest distance within a pair, in cells of the features.
        gain: factor on the distance of features.

    Raises:
        ValueError: when a setting is out of range.
    """

    def __init__(self, num_pairs: int = 8192, reach: float = 10.0, gain: float = 4.0) -> None:
        super().__init__()
        for name, value in (("num_pairs", num_pairs), ("reach", reach), ("gain", gain)):
            if value <= 0:
                raise ValueError(f"{name}: expected a positive number, but got {value}.")
        self.num_pairs = num_pairs
        self.reach = reach
        self.gain = gain

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Compute the loss. Random numbers come from PyTorch's generator of the CPU.

        Args:
            features: (B, C, h, w) or (B, C, d, h, w).
            regions: region numbers at L scales, integers (B, L, *spatial) of any size, read in the middle of every
                cell; pairs with a negative number do not count.

        Returns:
            scalar, the mean over the pairs; 0 when none counts.

        Raises:
            ValueError: when the shapes do not fit.
        """
        grid = features.shape[2:]
        if regions.ndim != features.ndim or len(regions) != len(features):
            raise ValueError(
                f"regions: expected {len(features)} items with {len(grid)} spatial axes, but got "
                f"{tuple(regions.shape)}."
            )
        features = features.float()
        one, other = (_flat(places, grid).to(features.device) for places in self._pairs(len(features), grid))
        distance = self.gain * (_at(features, one) - _at(features, other)).abs().mean(1)  # (B, pairs)
        numbers = _in_cells(regions, grid)
        first, second = _at(numbers, one), _at(numbers, other)  # (B, L, pairs)
        together = (first == second).float().mean(1)
        # of probability exp(-distance); the tiny distance keeps the logarithm of its complement finite
        entropy = together * distance - (1 - together) * torch.log(-torch.expm1(-distance - 1e-4))
        counts = ((first >= 0) & (second >= 0)).all(1)
        return entropy.where(counts, 0).sum() / counts.sum().clamp(min=1)

    def _pairs(self, batch: int, grid: torch.Size) -> tuple[Tensor, Tensor]:
        """Cells of both places of every pair, each (B, pairs, axes)."""
        size = torch.tensor(grid)
        one = (torch.rand(batch, self.num_pairs, len(grid)) * size).long()
        direction = torch.randn(one.shape)
        distance = self.reach * torch.rand(batch, self.num_pairs, 1) ** (1 / len(grid))  # uniform in a ball
        step = distance * direction / direction.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return one, (one + step).round().long().clamp(min=0).minimum(size - 1)


def _flat(places: Tensor, grid: torch.Size) -> Tensor:
    """Index (B, pairs) of cells (B, pairs, axes) in the flattened grid."""
    index = torch.zeros_like(places[..., 0])
    for axis, length in enumerate(grid):
        index = index * length + places[..., axis]
    return index


def _at(maps: Tensor, index: Tensor) -> Tensor:
    """Values (B, C, pairs) of maps (B, C, *grid) at cells (B, pairs)."""
    return maps.flatten(2).gather(2, index.unsqueeze(1).expand(-1, maps.shape[1], -1))


def _in_cells(regions: Tensor, grid: torch.Size) -> Tensor:
    """Regions (B, L, *spatial) in the middle of every cell, (B, L, *grid)."""
    for axis, length in enumerate(grid, 2):
        centres = (torch.arange(length, device=regions.device) + 0.5) * regions.shape[axis] / length
        regions = regions.index_select(axis, centres.long())
    return regions
