"""The volume protocol: overlap and surface distances of whole volumes, in millimetres and in voxels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance, compute_iou
from torch import Tensor

from .structures import check_masks, crop_to_structures, measure_structures, presence

__all__ = ["VOLUME_METRICS", "compute_volume_metrics"]

VOLUME_METRICS = ("dice", "iou", "hd95_mm", "assd_mm", "hd95_voxel", "assd_voxel")


def compute_volume_metrics(y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> dict[str, Tensor]:
    r"""Compare volumes, structure by structure, with MONAI's metrics.

    With :math:`P, R` the predicted and the reference voxels, :math:`\partial P, \partial R` their surfaces (voxels with
    a face neighbour outside) and :math:`d(p, S) = \min_{s \in S} \|p - s\|_2`:

    - dice :math:`= 2 |P \cap R| / (|P| + |R|)`, iou :math:`= |P \cap R| / |P \cup R|`;
    - assd :math:`= (\sum_{p \in \partial P} d(p, \partial R) + \sum_{r \in \partial R} d(r, \partial P)) /
      (|\partial P| + |\partial R|)`;
    - hd95: the larger one of the 95th percentiles of :math:`d(p, \partial R)` and of :math:`d(r, \partial P)`.

    Empty masks never score as good ones: a structure that is in neither mask is NaN throughout; one that is missed, or
    that the reference does not have, gets 0 overlap and NaN distances. Count these cases beside any mean of distances,
    see `presence`. A volume with a single slice is measured as an image: in 3-D, all its voxels would be surface.

    Args:
        y_pred: predicted masks of C structures, 0/1. There is no background channel.
        y: reference masks.
        spacing: size of a voxel along X, Y and Z in mm; distances in voxels take it as 1 throughout.

    Shape:
        - y_pred, y: (B, C, X, Y, Z).
        - output: (B, C), float32, for each of "dice", "iou", "hd95_mm", "assd_mm", "hd95_voxel", "assd_voxel".

    Raises:
        ValueError: when shapes or values of the masks are wrong, or the spacing is not three positive numbers.

    Example:
        >>> mask = torch.zeros(1, 1, 9, 9, 9)
        >>> mask[..., 2:6, 2:6, 2:6] = 1
        >>> compute_volume_metrics(mask.roll(2, -1), mask, spacing=(1, 1, 3))["dice"]
        tensor([[0.5000]])
    """
    y_pred, y = check_masks(y_pred, y, (5,), "masks (B, C, X, Y, Z)")
    sizes = [float(size) for size in spacing]
    if len(sizes) != 3 or not all(0 < size < float("inf") for size in sizes):
        raise ValueError(f"spacing: expected three positive numbers of mm, but got {tuple(spacing)}.")
    return measure_structures(y_pred, y, VOLUME_METRICS, partial(_structure_metrics, spacing=sizes))


def _structure_metrics(y_pred: Tensor, y: Tensor, spacing: list[float]) -> list[float]:
    """The metrics of one structure, in the order of VOLUME_METRICS."""
    found = presence(y_pred, y)
    if found == "empty":
        return [float("nan")] * len(VOLUME_METRICS)
    if y.shape.count(1) == 1:
        flat = y.shape.index(1)
        y_pred, y = y_pred.squeeze(flat), y.squeeze(flat)
        spacing = spacing[:flat] + spacing[flat + 1 :]
    y_pred, y = (mask[None, None] for mask in crop_to_structures(y_pred, y))
    overlap = [compute_dice(y_pred, y, ignore_empty=False), compute_iou(y_pred, y, ignore_empty=False)]
    # MONAI would give infinity here, and a warning
    distances = (
        [float("nan")] * 4
        if found != "both"
        else [distance for unit in (spacing, None) for distance in _distances(y_pred, y, unit)]
    )
    return [*map(float, overlap), *distances]


def _distances(y_pred: Tensor, y: Tensor, spacing: list[float] | None) -> list[float]:
    """HD95 and ASSD."""
    settings = {"include_background": True, "spacing": spacing}
    hausdorff = compute_hausdorff_distance(y_pred, y, percentile=95, **settings)
    average = compute_average_surface_distance(y_pred, y, symmetric=True, **settings)
    return [hausdorff.item(), average.item()]
