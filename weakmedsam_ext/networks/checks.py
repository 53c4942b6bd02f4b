"""Checks of what users hand to the promptable networks; each message names the argument, the expected and the given
value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["check_image", "check_mask_logits", "check_points"]


def _checks_are_off() -> bool:
    """Checks read tensor values, which cannot be recorded in a traced, exported or compiled graph."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.jit.is_scripting()


def check_image(image: Tensor, spatial_size: Sequence[int], channels: Sequence[int]) -> None:
    """Check an image or a volume before it is encoded.

    Args:
        image: what the user passed, expected as (B, channels, *spatial_size).
        spatial_size: pixels or voxels along each axis that the network was built for.
        channels: the accepted numbers of channels.

    Raises:
        ValueError: when the rank, the channels, the spatial size or the type are wrong, or when a value is not finite.
    """
    if _checks_are_off():
        return
    expected = f"(B, {' or '.join(map(str, channels))}, {', '.join(map(str, spatial_size))})"
    if not isinstance(image, Tensor) or not image.is_floating_point():
        got = f"{image.dtype}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"image: expected a floating point tensor {expected}, but got {got}.")
    if image.ndim != 2 + len(spatial_size) or image.shape[1] not in channels:
        raise ValueError(f"image: expected shape {expected}, but got {tuple(image.shape)}.")
    if tuple(image.shape[2:]) != tuple(spatial_size):
        raise ValueError(
            f"image: expected spatial size {tuple(spatial_size)}, but got {tuple(image.shape[2:])}; resize the image "
            "(for example with monai.transforms.Resize) or build the network with another img_size."
        )
    if not torch.isfinite(image).all():
        raise ValueError("image: expected finite values, but got NaN or infinity; clean the image first.")


def check_mask_logits(mask_logits: Tensor, expected: Sequence[int]) -> None:
    """Check a mask prompt before it is embedded.

    Args:
        mask_logits: logits of an earlier answer.
        expected: shape that the network's own answers have.

    Raises:
        ValueError: when the shape or the type are wrong.
    """
    if tuple(mask_logits.shape) != tuple(expected):
        raise ValueError(f"mask_logits: expected shape {tuple(expected)}, but got {tuple(mask_logits.shape)}.")
    if not mask_logits.is_floating_point():
        raise ValueError(f"mask_logits: expected floating point logits, but got {mask_logits.dtype}.")


def check_points(
    points: Tensor, point_labels: Tensor, leading: Sequence[int | None], extent: Sequence[int], valid: Sequence[int]
) -> None:
    """Check point prompts before they are encoded.

    Args:
        points: (*leading, N, len(extent)), in pixels or voxels of the network's input.
        point_labels: (*leading, N).
        leading: expected leading dimensions; None accepts any positive number.
        extent: largest coordinate along each of the points' axes.
        valid: accepted labels. Points labelled -1 are padding, their coordinates are not looked at.

    Raises:
        ValueError: when ranks, shapes, coordinates or labels are wrong.
    """
    if _checks_are_off():
        return
    names = [str(size) if size is not None else "Q" for size in leading]
    shape = f"({', '.join(names)}, N, {len(extent)})"
    if points.ndim != len(leading) + 2 or points.shape[-1] != len(extent) or points.numel() == 0:
        raise ValueError(f"points: expected shape {shape} with N >= 1, but got {tuple(points.shape)}.")
    if any(want is not None and want != got for want, got in zip(leading, points.shape, strict=False)):
        raise ValueError(f"points: expected shape {shape} to match the embedding, but got {tuple(points.shape)}.")
    if point_labels.shape != points.shape[:-1]:
        raise ValueError(
            f"point_labels: expected one label a point, shape {tuple(points.shape[:-1])}, "
            f"but got {tuple(point_labels.shape)}."
        )
    if not torch.isin(point_labels, torch.tensor(valid, device=point_labels.device).to(point_labels.dtype)).all():
        raise ValueError(f"point_labels: expected values in {tuple(valid)}, but got {point_labels.unique().tolist()}.")
    limit = torch.tensor(extent, dtype=points.dtype, device=points.device)
    inside = ((points >= 0) & (points <= limit)).all(-1) | (point_labels == -1)
    if not inside.all():
        raise ValueError(
            f"points: expected coordinates in [0, {tuple(extent)}] pixels of the network's input, "
            f"but got {points[~inside][0].tolist()}."
        )
