"""Checks, presence and cropping of predicted and reference masks, shared by both protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.transforms.utils import generate_spatial_bounding_box
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["PRESENCES", "check_masks", "crop_to_structures", "measure_structures", "presence"]

PRESENCES = ("both", "missed", "spurious", "empty")


def presence(y_pred: Tensor, y: Tensor) -> str:
    """Tell whether prediction, reference or both contain a structure.

    Args:
        y_pred: prediction, any shape; nonzero is inside.
        y: reference.

    Returns:
        "both"; "missed": in the reference only; "spurious": in the prediction only; "empty": in neither.
    """
    predicted, real = bool(y_pred.any()), bool(y.any())
    if predicted and real:
        return "both"
    return "missed" if real else "spurious" if predicted else "empty"


def crop_to_structures(y_pred: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Crop two masks, of which one may be empty, to the box that holds both structures.

    No metric here changes: overlaps do not count background, surfaces are the voxels next to background or to the
    border of the array, and distances run between surfaces.

    Args:
        y_pred: prediction, any spatial shape, bool.
        y: reference, same shape.

    Returns:
        both, cropped.
    """
    start, end = generate_spatial_bounding_box((y_pred | y).unsqueeze(0), allow_smaller=True)
    box = tuple(slice(int(low), int(high)) for low, high in zip(start, end, strict=True))
    return y_pred[box], y[box]


def check_masks(y_pred: Tensor, y: Tensor, ranks: tuple[int, ...], shape: str) -> tuple[Tensor, Tensor]:
    """Check binary masks in batches and turn them into bool.

    Args:
        y_pred: predictions, 0/1 of any type.
        y: references.
        ranks: accepted numbers of axes.
        shape: what is expected, for the message.

    Returns:
        both, bool, as plain tensors.

    Raises:
        ValueError: when the rank is wrong, the shapes differ, or a value is neither 0 nor 1.
    """
    if y.ndim not in ranks:
        raise ValueError(f"y: expected {shape}, but got shape {tuple(y.shape)}.")
    if y_pred.shape != y.shape:
        raise ValueError(f"y_pred: expected the shape of y, {tuple(y.shape)}, but got {tuple(y_pred.shape)}.")
    for name, masks in (("y_pred", y_pred), ("y", y)):
        if masks.dtype != torch.bool and not ((masks == 0) | (masks == 1)).all():
            raise ValueError(
                f"{name}: expected masks of 0 and 1, but got values from {masks.min().item():g} to "
                f"{masks.max().item():g}; threshold probabilities, and turn label maps into one-hot masks."
            )
    # without MONAI's metadata, which slicing a mask would carry along
    return convert_to_tensor(y_pred, dtype=torch.bool), convert_to_tensor(y, dtype=torch.bool)


def measure_structures(
    y_pred: Tensor, y: Tensor, names: Sequence[str], measure: Callable[[Tensor, Tensor], Sequence[float]]
) -> dict[str, Tensor]:
    """Measure the structures of a batch one by one.

    Args:
        y_pred: predicted masks (B, C, ...).
        y: reference masks (B, C, ...).
        names: of the metrics.
        measure: gives the metrics of one structure, in the order of `names`, from its two masks.

    Returns:
        metric -> values (B, C), float32.
    """
    batch, channels = y.shape[:2]
    pairs = zip(y_pred.flatten(0, 1), y.flatten(0, 1), strict=True)
    values = torch.tensor([measure(*pair) for pair in pairs], dtype=torch.float32, device=y.device)
    return dict(zip(names, values.reshape(batch, channels, len(names)).unbind(-1), strict=True))
