"""Refine soft maps by a random walk along the edges of a guide."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type, convert_to_tensor

from ..networks import AffinityRandomWalk

__all__ = ["AffinityRefine", "AffinityRefineD", "AffinityRefineDict", "AffinityRefined"]


class AffinityRefine(Transform):
    """Spread soft maps inside the objects of a guide, for example class-activation maps or probabilities.

    Args:
        radius: see `weakmedsam_ext.networks.AffinityRandomWalk`, also for formulas and errors.
        beta: see there.
        num_steps: see there.
        propagation: see there.
        border: see there.
        renormalize: see there; off by default, so that probabilities stay probabilities.
    """

    def __init__(
        self,
        radius: int = 5,
        beta: float = 4.0,
        num_steps: int = 4,
        propagation: str = "averaging",
        border: str = "full",
        renormalize: bool = False,
    ) -> None:
        self.walk = AffinityRandomWalk(radius, beta, num_steps, propagation, border, renormalize)

    @torch.no_grad()
    def __call__(self, maps: NdarrayOrTensor, guide: NdarrayOrTensor) -> NdarrayOrTensor:
        """Refine.

        Args:
            maps: (C, H, W) or (C, D, H, W).
            guide: (G, H, W) or (G, D, H, W), for example an image in 0..1 or mask logits.

        Returns:
            maps, of the same type and shape as given.
        """
        tensors = [convert_to_tensor(x, track_meta=False, dtype=torch.float32) for x in (maps, guide)]
        refined = self.walk(tensors[0].unsqueeze(0), tensors[1].to(tensors[0].device).unsqueeze(0))[0]
        return convert_to_dst_type(refined, dst=convert_data_type(maps)[0], dtype=torch.float32)[0]


class AffinityRefined(MapTransform):
    """Dictionary version of `AffinityRefine`.

    Args:
        keys: soft maps.
        guide_key: the guide, for example the image.
        radius: see `AffinityRefine`.
        beta: see `AffinityRefine`.
        num_steps: see `AffinityRefine`.
        propagation: see `AffinityRefine`.
        border: see `AffinityRefine`.
        renormalize: see `AffinityRefine`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        guide_key: str = "image",
        radius: int = 5,
        beta: float = 4.0,
        num_steps: int = 4,
        propagation: str = "averaging",
        border: str = "full",
        renormalize: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.guide_key = guide_key
        self.refine = AffinityRefine(radius, beta, num_steps, propagation, border, renormalize)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Refine the maps in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.refine(item[key], item[self.guide_key])
        return item


AffinityRefineD = AffinityRefineDict = AffinityRefined
