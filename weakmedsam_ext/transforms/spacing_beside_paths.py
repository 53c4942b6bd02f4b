"""Resampling of items that also hold paths, as MONAI Label's do."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd

__all__ = ["SpacingBesidePathsD", "SpacingBesidePathsDict", "SpacingBesidePathsd"]


class SpacingBesidePathsd(Spacingd):
    """MONAI's `Spacingd` for items whose text must not be taken for metadata.

    MONAI 1.6.1 updates every key that starts with "image_" as if it were a dictionary. MONAI Label keeps the path of
    the image under "image_path", so that a server answers 500. This transform holds texts back; arguments and inverse
    are MONAI's.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample in a copy of the item."""
        texts = {key: value for key, value in data.items() if isinstance(value, str)}
        others = {key: value for key, value in data.items() if key not in texts}
        return {**super().__call__(others, lazy=lazy), **texts}


SpacingBesidePathsD = SpacingBesidePathsDict = SpacingBesidePathsd
