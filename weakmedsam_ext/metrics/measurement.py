"""Measurements of one structure of one case by both protocols, and statistics over many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from .released_protocol import RELEASED_METRICS, compute_released_metrics
from .structures import presence
from .volume_protocol import VOLUME_METRICS, compute_volume_metrics

__all__ = ["DECIMALS", "METRICS", "PROTOCOLS", "Measurement", "measure", "statistics", "summarise"]

PROTOCOLS = {
    "volume": "whole volumes, distances in mm from the voxel size and in voxels; n counts cases. A case whose "
    "structure is missed or spurious has Dice and IoU 0 and no distance; one that is empty in both masks is left out.",
    "released": "slice-wise as in WeakMedSAM's released code, for comparison only; n counts slices of all cases, "
    "pixels are those of the volume. Distances are understated (the whole mask counts as its surface), and slices that "
    "are empty in both masks score Dice and Jaccard 1.",
}
METRICS = {"volume": VOLUME_METRICS, "released": RELEASED_METRICS}
COUNTED = ("missed", "spurious", "empty")
# coarser than rounding errors of single precision, finer than any difference that matters
DECIMALS = 6


@dataclass(frozen=True)
class Measurement:
    """One structure of one case.

    Args:
        values: protocol -> metric -> values, one of the case ("volume"), or one of each slice ("released").
        presences: protocol -> what `presence` says, of the case, or of each slice.
    """

    values: dict[str, dict[str, list[float]]]
    presences: dict[str, list[str]]

    def row(self) -> dict[str, Any]:
        """A flat summary of the case; means over its slices for the released protocol, None where there is no value."""
        cells: dict[str, Any] = {"volume_presence": self.presences["volume"][0]}
        for protocol, metrics in METRICS.items():
            if protocol == "released":
                found = self.presences[protocol]
                cells |= {"released_slices": len(found)}
                cells |= {f"released_{kind}_slices": found.count(kind) for kind in COUNTED}
            cells |= {f"{protocol}_{metric}": statistics(self.values[protocol][metric])["mean"] for metric in metrics}
        return cells


def measure(y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> Measurement:
    """Measure one structure of one case.

    Args:
        y_pred: predicted mask (X, Y, Z), bool.
        y: reference mask (X, Y, Z), bool; slices lie along the last axis.
        spacing: size of a voxel along X, Y and Z in mm.

    Raises:
        ValueError: see `compute_volume_metrics`.
    """
    pair = y_pred[None, None], y[None, None]
    computed = {"volume": compute_volume_metrics(*pair, spacing), "released": compute_released_metrics(*pair)}
    values = {p: {name: column[:, 0].tolist() for name, column in named.items()} for p, named in computed.items()}
    slices = zip(y_pred.unbind(-1), y.unbind(-1), strict=True)
    return Measurement(values, {"volume": [presence(y_pred, y)], "released": [presence(*one) for one in slices]})


def summarise(measurements: Sequence[Measurement], protocol: str) -> dict[str, dict[str, Any]]:
    """Statistics of one structure over cases ("volume") or over the slices of all cases ("released").

    Args:
        measurements: one for each case.
        protocol: "volume" or "released".

    Returns:
        metric -> "mean", "std" (of the population, not of a sample) and "median", None if there is no value; "n", the
        number of values; "n_missed", "n_spurious" and "n_empty" cases, or slices.
    """
    found = [kind for measurement in measurements for kind in measurement.presences[protocol]]
    counts = {f"n_{kind}": found.count(kind) for kind in COUNTED}
    return {
        metric: statistics([value for m in measurements for value in m.values[protocol][metric]]) | counts
        for metric in METRICS[protocol]
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation of the population and median of the values that exist, and their number "n"."""
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    statistics: dict[str, Any] = {
        name: round(float(function(known)), DECIMALS) if known.size else None
        for name, function in (("mean", np.mean), ("std", np.std), ("median", np.median))
    }
    return {**statistics, "n": int(known.size)}
