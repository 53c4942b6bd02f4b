"""Grow the sure part of a soft map over a volume, along the edges of its image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import MapTransform, Transform
from monai.utils import convert_data_type, convert_to_dst_type, convert_to_numpy
from scipy.ndimage import label as label_parts
from skimage.segmentation import random_walker

__all__ = ["SeededRandomWalk", "SeededRandomWalkD", "SeededRandomWalkDict", "SeededRandomWalkd"]

BACKGROUND = 1  # label of its seeds; class k has k + 2
TOLERANCE = 1e-3  # of the linear solver
TINY = 1e-9
LAST_CHOICE = 1e-3  # times the map where a class has no seed: below any threshold, but there


class SeededRandomWalk(Transform):
    """Random walker (Grady, IEEE TPAMI 2006) from the seeds that a soft map gives.

    In every slice, the places near the map's maximum are seeds of the class, and those where the map is very low are
    seeds of the background. A voxel in between belongs to the class whose seeds a random walk from there meets first;
    steps across edges of the image are unlikely. Unlike in a walk without seeds, what is sure stays, so that a small
    object is not averaged away; a class that finds no place for a seed in a slice keeps a trace of its map there.
    Slices that are known to be empty are background. scikit-image solves it.

    Args:
        seed_margin: a class has its seeds where the logit of its map is at most this far below the slice's maximum.
        background_logit: background has its seeds where the logits of all classes are below.
        beta: how much an edge hinders, see `skimage.segmentation.random_walker`.
        dark: image values up to this are background: air, and what lies outside.

    Raises:
        ValueError: when `seed_margin` or `beta` is not positive.
    """

    def __init__(
        self, seed_margin: float = 0.5, background_logit: float = -7.0, beta: float = 20000.0, dark: float = 0.05
    ) -> None:
        for name, value in (("seed_margin", seed_margin), ("beta", beta)):
            if not value > 0:
                raise ValueError(f"{name}: expected a positive number, but got {value}.")
        self.seed_margin = seed_margin
        self.background_logit = background_logit
        self.beta = beta
        self.dark = dark

    def __call__(
        self, maps: NdarrayOrTensor, image: NdarrayOrTensor, spacing: Sequence[float] | None = None
    ) -> NdarrayOrTensor:
        """Grow.

        Args:
            maps: probabilities (K, X, Y, Z) of a classifier with a threshold, such as `CAMPseudoLabeler` gives with
                scaling "logit"; 0 in all of a slice (along Z) where the class is known to be absent.
            image: (C, X, Y, Z), intensities in 0..1.
            spacing: size of a voxel along X, Y and Z, in mm; equal without.

        Returns:
            probabilities, of the same type and shape as `maps`.

        Raises:
            ValueError: when shapes differ, or a value is NaN.
        """
        soft, picture = (convert_to_numpy(x).astype(np.float32) for x in (maps, image))
        if soft.ndim != 4 or picture.shape[1:] != soft.shape[1:]:
            raise ValueError(
                f"maps: expected (K, X, Y, Z) on the grid of the image, but got {soft.shape} and {picture.shape}."
            )
        if np.isnan(soft).any() or np.isnan(picture).any():
            raise ValueError("maps: expected numbers, but got NaN.")
        present = soft.max((1, 2), keepdims=True) > 0  # (K, 1, 1, Z)
        seeds = self._seeds(soft, present, (picture > self.dark).any(0))
        grown = np.zeros_like(soft)
        shown = np.flatnonzero(present.any(0))
        if len(shown):
            # what lies beyond the first and the last slice with a class is background anyway
            block = np.s_[..., max(shown[0] - 1, 0) : shown[-1] + 2]
            grown[block] = self._walk(seeds[block], picture[block], len(soft), spacing)
        grown *= present
        lost = present & (grown.max((1, 2), keepdims=True) == 0)
        return convert_to_dst_type(
            np.where(lost, LAST_CHOICE * soft, grown), dst=convert_data_type(maps)[0], dtype=torch.float32
        )[0]

    def _seeds(self, soft: np.ndarray, present: np.ndarray, bright: np.ndarray) -> np.ndarray:
        """Labels of seeds (X, Y, Z), 0 where the walk decides."""
        soft = np.where(bright, np.clip(soft, TINY, 1 - 1e-7), TINY)
        logit = np.log(soft / (1 - soft))
        best = logit.argmax(0)
        seeds = np.where((logit < self.background_logit).all(0) | ~present.any(0), BACKGROUND, 0)
        for k in range(len(soft)):
            highest = logit[k].max((0, 1))
            # a class that others cover keeps its peak
            near = ((logit[k] >= highest - self.seed_margin) & (best == k)) | (logit[k] == highest)
            seeds[near & present[k]] = k + 2
        return np.where(bright, seeds, BACKGROUND)

    def _walk(
        self, seeds: np.ndarray, image: np.ndarray, num_classes: int, spacing: Sequence[float] | None
    ) -> np.ndarray:
        """Probabilities (K, X, Y, Z) of a block."""
        found = np.unique(seeds[seeds > 0])
        grown = np.zeros((num_classes, *seeds.shape), np.float32)
        if (seeds == 0).any() and len(found) > 1:
            # the walker wants labels without gaps
            labels = np.where(seeds > 0, np.searchsorted(found, seeds) + 1, 0)
            probabilities = random_walker(
                np.moveaxis(image, 0, -1),
                labels,
                beta=self.beta,
                mode="cg_j",
                tol=TOLERANCE,
                return_full_prob=True,
                spacing=spacing,
                channel_axis=-1,
                prob_tol=1.0,  # the solver's small errors are clipped below
            )
        else:
            probabilities = np.stack([seeds == one for one in found])
        for label, probability in zip(found, probabilities, strict=True):
            if label != BACKGROUND:
                grown[label - 2] = np.clip(_with_seeds(probability, seeds == label), 0, 1)
        return grown


def _with_seeds(probability: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Set the parts above one half to 0 that hold no seed.

    The exact solution has none: it is harmonic, so its maxima are seeds. The solver leaves some behind strong edges.
    """
    parts, _ = label_parts(probability > 0.5)
    return np.where((parts > 0) & ~np.isin(parts, parts[seeds]), 0, probability)


class SeededRandomWalkd(MapTransform):
    """Dictionary version of `SeededRandomWalk`; voxel sizes are those of the maps' affine, where they have one.

    Args:
        keys: soft maps.
        image_key: the image.
        seed_margin: see `SeededRandomWalk`.
        background_logit: see `SeededRandomWalk`.
        beta: see `SeededRandomWalk`.
        dark: see `SeededRandomWalk`.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        seed_margin: float = 0.5,
        background_logit: float = -7.0,
        beta: float = 20000.0,
        dark: float = 0.05,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image_key = image_key
        self.walk = SeededRandomWalk(seed_margin, background_logit, beta, dark)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Grow the maps in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            affine = getattr(item[key], "affine", None)
            spacing = None if affine is None else affine_to_spacing(affine).tolist()
            item[key] = self.walk(item[key], item[self.image_key], spacing)
        return item


SeededRandomWalkD = SeededRandomWalkDict = SeededRandomWalkd
