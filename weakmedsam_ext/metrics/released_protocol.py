"""The protocol of WeakMedSAM's released evaluation, slice by slice and with its defects: for comparison only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction, ignore_background
from monai.utils import MetricReduction, look_up_option
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor

from .structures import check_masks, crop_to_structures, measure_structures, presence

__all__ = ["RELEASED_METRICS", "ReleasedSliceMetric", "compute_released_metrics"]

RELEASED_METRICS = ("dice", "jaccard", "assd_px", "hd95_px")


def compute_released_metrics(y_pred: Tensor, y: Tensor) -> dict[str, Tensor]:
    r"""Compare masks slice by slice as WeakMedSAM's released code does. For comparison with its numbers only.

    The definitions are those of medpy 0.5.2, with :math:`d(p, S) = \min_{s \in S} \|p - s\|_2` in pixels of the given
    array and surfaces :math:`\partial P, \partial R` left over when the eroded mask is taken away:

    - dice :math:`= 2 |P \cap R| / (|P| + |R|)`, jaccard :math:`= |P \cap R| / |P \cup R|`;
    - assd and hd95: mean and 95th percentile of :math:`d(p, \partial R), p \in \partial P` and
      :math:`d(r, \partial P), r \in \partial R` together. (Up to 0.4.0, medpy averaged the two means instead.)

    Two defects are reproduced:

    - **Distances are understated** (defect 8). Surfaces are looked for in arrays (1, H, W), where every pixel has an
      outside neighbour along the first axis. Erosion deletes the whole mask, so :math:`\partial P = P`: pixels deep
      inside both masks count as surface points at distance 0.
    - **Empty slices score as perfect** (defect 9). A slice without structure and without prediction has Dice and
      Jaccard 1, and these are averaged in: a network that predicts nothing looks good where structures are rare.

    Where only one of the masks is empty, Dice and Jaccard are 0. Where either is, there are no distances: medpy raises;
    here they are NaN and left out of means, so slices that are missed altogether do not make them worse. This is our
    choice; how the released code handles these slices is not known.

    Args:
        y_pred: predicted masks of C structures, 0/1.
        y: reference masks.

    Shape:
        - y_pred, y: (B, C, H, W), or (B, C, H, W, D) with D slices along the last axis.
        - output: (N, C), float32, for each of "dice", "jaccard", "assd_px", "hd95_px"; N = B, or B * D with the slices
          of a volume one after the other.

    Raises:
        ValueError: when shapes or values of the masks are wrong.

    References:
        Wang et al., "WeakMedSAM", IEEE TMI 2025, doi 10.1109/TMI.2025.3549433.
        medpy.metric.binary (dc, jc, assd, hd95), https://github.com/loli/medpy.

    Example:
        >>> compute_released_metrics(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))["dice"]
        tensor([[1.]])
    """
    y_pred, y = check_masks(y_pred, y, (4, 5), "masks (B, C, H, W) or (B, C, H, W, D)")
    if y.ndim == 5:
        y_pred, y = (masks.movedim(-1, 1).flatten(0, 1) for masks in (y_pred, y))
    return measure_structures(y_pred, y, RELEASED_METRICS, _slice_metrics)


class ReleasedSliceMetric(CumulativeIterationMetric):
    """One metric of `compute_released_metrics`, collected over slices as MONAI's metrics are. For comparison only.

    Args:
        metric: "dice", "jaccard", "assd_px" or "hd95_px".
        include_background: False leaves out the first channel.
        reduction: of the values that are not NaN, see `monai.utils.MetricReduction`. Where there is none the result is
            NaN; MONAI's own metrics give 0, which as a distance would be perfect.
        get_not_nans: `aggregate` also returns how many values went in.

    Raises:
        ValueError: when the metric is unknown.

    Example:
        >>> metric = ReleasedSliceMetric("dice")
        >>> values = metric(torch.ones(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
        >>> metric.aggregate()
        tensor([1.])
    """

    def __init__(
        self,
        metric: str = "dice",
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        self.metric: str = look_up_option(metric, RELEASED_METRICS)
        self.include_background = include_background
        self.reduction = look_up_option(reduction, MetricReduction)
        self.get_not_nans = get_not_nans

    def _compute_tensor(self, y_pred: Tensor, y: Tensor, **kwargs: Any) -> Tensor:
        if not self.include_background:
            y_pred, y = ignore_background(y_pred, y)
        return compute_released_metrics(y_pred, y)[self.metric]

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Reduce what was collected.

        Args:
            reduction: instead of the one given at construction.

        Returns:
            the reduced values, in the shape that the reduction leaves; with `get_not_nans` also the counts.

        Raises:
            ValueError: when nothing was collected.
        """
        values = self.get_buffer()
        if values is None:
            raise ValueError("nothing to aggregate: call the metric with masks first.")
        values, counts = do_metric_reduction(values, reduction or self.reduction)
        values = torch.where(counts > 0, values, torch.nan)
        return (values, counts) if self.get_not_nans else values


def _slice_metrics(y_pred: Tensor, y: Tensor) -> list[float]:
    """The metrics of one slice, in the order of RELEASED_METRICS."""
    found = presence(y_pred, y)
    if found != "both":
        overlap = 1.0 if found == "empty" else 0.0
        return [overlap, overlap, float("nan"), float("nan")]
    predicted, real = (mask.cpu().numpy() for mask in crop_to_structures(y_pred, y))
    common, both = int((predicted & real).sum()), int(predicted.sum() + real.sum())
    # the leading axis is defect 8
    there, back = _surface_distances(predicted[None], real[None]), _surface_distances(real[None], predicted[None])
    distances = np.concatenate((there, back))
    return [2 * common / both, common / (both - common), float(distances.mean()), float(np.percentile(distances, 95))]


def _surface_distances(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From every surface pixel of one mask to the nearest surface pixel of the other."""
    start_surface, end_surface = (mask & ~binary_erosion(mask) for mask in (start, end))
    return distance_transform_edt(~end_surface)[start_surface]
