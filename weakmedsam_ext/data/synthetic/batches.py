"""Endless batches of synthetic images for training, made on the device that trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .abstract import jittered_spheres, warped_noise
from .anatomy import anatomy
from .appearance import render
from .noise import uniform
from .scene import region_scales

__all__ = ["GENERATOR_VERSION", "SyntheticBatches", "synthetic_batch"]

GENERATOR_VERSION = 1  # raise it when the same seed gives other images
# which part of a batch shows what
ORGANS, CLUTTER, SPHERES = 0.5, 0.15, 0.15  # the rest: warped noise
PADDED = 0.2  # part of the images that are padded, as where an image is no square or a patch leaves its volume
MANY = 24  # objects in clutter


def synthetic_batch(
    batch_size: int, size: Sequence[int], generator: torch.Generator, min_size: int = 16
) -> tuple[Tensor, Tensor]:
    """Make images and their regions.

    Half of the images show organs, the others many small objects, jittered spheres, or warped noise; in a small batch
    chance decides which of them are there.

    Args:
        batch_size: B.
        size: *spatial, two or three axes.
        generator: decides about everything, on the device of the result; the same seed gives the same batch on the
            same kind of device.
        min_size: smaller regions are never clicked, in pixels.

    Returns:
        images float32 (B, 1, *spatial) in 0..1, and numbers of connected regions at three scales int32 (B, 3,
        *spatial): parts, organs with what is in them, and groups of organs; negative where nothing is to be clicked.

    Raises:
        ValueError: when a size is wrong.
    """
    if len(size) not in (2, 3) or min(size) < 8:
        raise ValueError(f"size: expected two or three axes of at least 8 pixels, but got {tuple(size)}.")
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, but got {batch_size}.")
    images, regions = [], []
    for count, kind in zip(_counts(batch_size, generator), range(4), strict=True):
        if not count:
            continue
        if kind < 2:
            scene = anatomy(count, size, generator, *((MANY,) if kind else ()))
        else:
            scene = (jittered_spheres, warped_noise)[kind - 2](count, size, generator)
        images.append(render(scene, generator))
        regions.append(region_scales(scene, min_size))
    seen = _field_of_view(batch_size, size, generator)
    return torch.cat(images).where(seen, 0), torch.cat(regions).where(seen, -1)


def _field_of_view(batch: int, size: Sequence[int], generator: torch.Generator) -> Tensor:
    """What is not padding, bool (B, 1, *spatial): everything, or in some images all but both ends of a random axis."""
    axis = torch.randint(len(size), (batch,), generator=generator, device=generator.device)
    padded = uniform(0, 1, (batch,), generator) < PADDED
    seen = torch.ones((batch, 1, *size), dtype=torch.bool, device=generator.device)
    for number, length in enumerate(size):
        shape = [-1, 1, *(length if other == number else 1 for other in range(len(size)))]
        width = (length * uniform(0, 0.3, (batch, 1), generator)).long()
        place = torch.arange(length, device=generator.device)
        inside = (place >= width) & (place < length - width)
        seen &= (inside | ~(padded & (axis == number))[:, None]).view(shape)
    return seen


def _counts(batch_size: int, generator: torch.Generator) -> list[int]:
    """How many images show organs, clutter, spheres and noise."""
    chance = float(torch.rand((), generator=generator, device=generator.device))
    bounds = [int(share * batch_size + chance) for share in (ORGANS, ORGANS + CLUTTER, ORGANS + CLUTTER + SPHERES)]
    edges = [0, *(min(bound, batch_size) for bound in bounds), batch_size]
    return [after - before for before, after in zip(edges, edges[1:], strict=False)]


class SyntheticBatches:
    """Batches {"image", "label"} for `PromptableTrainer`; every group of an epoch has a seed of its own.

    A training that is killed and goes on after an epoch sees the same batches as one that was not, if `set_epoch` is
    called when an epoch starts.

    Args:
        batch_size: B of the first size; batches of other sizes hold about as many pixels.
        sizes: *spatial of the images, which take turns.
        length: batches an epoch.
        seed: of the first epoch.
        device: where batches are made.
        min_size: see `synthetic_batch`.
        group: batches that are made at once, as a GPU waits for its orders when it makes few images.
    """

    def __init__(
        self,
        batch_size: int,
        sizes: Sequence[Sequence[int]],
        length: int,
        seed: int = 0,
        device: str | torch.device = "cpu",
        min_size: int = 16,
        group: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.sizes = [tuple(size) for size in sizes]
        self.length = length
        self.seed = seed
        self.device = torch.device(device)
        self.min_size = min_size
        self.group = group
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for first in range(0, self.length, self.group):
            generator = torch.Generator(self.device).manual_seed((self.seed << 40) + (self.epoch << 20) + first)
            size = self.sizes[first // self.group % len(self.sizes)]
            count = max(1, round(self.batch_size * math.prod(self.sizes[0]) / math.prod(size)))
            images, labels = synthetic_batch(self.group * count, size, generator, self.min_size)
            for number in range(min(self.group, self.length - first)):
                # strides, as images of one kind come one after the other
                yield {"image": images[number :: self.group], "label": labels[number :: self.group]}
