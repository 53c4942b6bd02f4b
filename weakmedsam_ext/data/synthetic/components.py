"""Connected components of label maps, batched and on any device."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["connected_components", "drop_small"]


def connected_components(labels: Tensor) -> Tensor:
    """Number the connected components of every item; pixels of one component share sides and have one label.

    Every pixel points to one of its component; in turns, components take over the largest pointer of their neighbours
    and pointers are followed (Shiloach and Vishkin, 1982), so that even winding shapes need few turns.

    Args:
        labels: integers (B, *spatial).

    Returns:
        int64 (B, *spatial), the largest flat index of a pixel of the component; -1 where the label is negative.
    """
    shape = labels.shape
    count = labels[0].numel()
    pointer = torch.arange(count, device=labels.device).expand(len(labels), -1).contiguous()
    while True:
        nearby = _largest_nearby(pointer.view(shape), labels).flatten(1)
        hooked = pointer.scatter_reduce(1, pointer, nearby, "amax")
        hooked = hooked.gather(1, hooked)
        hooked = hooked.gather(1, hooked)
        if torch.equal(hooked, pointer):
            return pointer.view(shape).where(labels >= 0, -1)
        pointer = hooked


def drop_small(regions: Tensor, min_size: int) -> Tensor:
    """Set regions of less than `min_size` pixels to -1; numbers (B, *spatial) are below the number of pixels."""
    flat = regions.flatten(1)
    index = flat.clamp(min=0)
    sizes = torch.zeros_like(flat).scatter_add(1, index, (flat >= 0).long())
    return flat.where(sizes.gather(1, index) >= min_size, -1).view(regions.shape)


def _largest_nearby(values: Tensor, labels: Tensor) -> Tensor:
    """Largest value of a pixel and of those of its neighbours that have its label."""
    result = values.clone()
    for axis in range(1, labels.ndim):
        length = labels.shape[axis] - 1
        same = labels.narrow(axis, 0, length) == labels.narrow(axis, 1, length)
        first, second = values.narrow(axis, 0, length), values.narrow(axis, 1, length)
        one, other = result.narrow(axis, 0, length), result.narrow(axis, 1, length)
        one.copy_(torch.where(same, torch.maximum(one, second), one))
        other.copy_(torch.where(same, torch.maximum(other, first), other))
    return result
