"""What a batch of a data loader must hold, told in one sentence where it lacks something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.utils import CommonKeys as Keys
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["prepare_pair"]


def prepare_pair(
    prepare_batch: Callable, batchdata: Any, device: Any, non_blocking: bool, remedy: str, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Image and label of a batch as plain tensors on the device.

    Args:
        prepare_batch: of the engine, gives both.
        batchdata: from the data loader.
        device: see `prepare_batch`.
        non_blocking: see `prepare_batch`.
        remedy: ends the error, says where labels come from.
        kwargs: see `prepare_batch`.

    Raises:
        ValueError: when one of them is missing.
    """
    try:
        image, label = prepare_batch(batchdata, device, non_blocking, **kwargs)
    except KeyError as error:
        raise ValueError(_lacks(error.args[0], batchdata, "add it to the items of the data set")) from error
    if label is None:
        raise ValueError(_lacks(Keys.LABEL, batchdata, remedy))
    return convert_to_tensor(image, track_meta=False), convert_to_tensor(label, track_meta=False)


def _lacks(key: Any, batchdata: Any, remedy: str) -> str:
    found = f" beside {sorted(map(str, batchdata))}" if isinstance(batchdata, Mapping) else ""
    return f"batch: {str(key)!r} is missing{found}; {remedy}."
