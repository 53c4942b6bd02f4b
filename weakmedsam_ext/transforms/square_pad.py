"""Slices padded to squares."""

from __future__ import annotations

from collections.abc import Sequence

from monai.config import KeysCollection
from monai.transforms import Pad, Padd

__all__ = ["SquarePad", "SquarePadD", "SquarePadDict", "SquarePadd"]


class SquarePad(Pad):
    """Pad the first two spatial axes with zeros to the same length, as `SliceGeometry` does; invertible.

    Odd differences put the smaller half in front.
    """

    def compute_pad_width(self, spatial_shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Padding of the channels and of all spatial axes, in front and behind."""
        side = max(spatial_shape[:2])
        missing = [side - size for size in spatial_shape[:2]]
        return ((0, 0), *((size // 2, size - size // 2) for size in missing), *((0, 0) for _ in spatial_shape[2:]))


class SquarePadd(Padd):
    """Dictionary version of `SquarePad`.

    Args:
        keys: images (C, H, W) or volumes (C, X, Y, Z).
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, SquarePad(), allow_missing_keys=allow_missing_keys)


SquarePadD = SquarePadDict = SquarePadd
