"""Items of a data set: {"case", "image"} and, where there is a mask, "label"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.utils import ensure_tuple

__all__ = ["images_of"]


def images_of(item: Mapping[str, Any]) -> list[str]:
    """Paths of the images of a case, one a channel."""
    return [str(path) for path in ensure_tuple(item["image"])]
