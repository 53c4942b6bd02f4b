"""Read user clicks from a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .datasets.decathlon import image_items
from .io import read_json

__all__ = ["read_clicks"]

logger = logging.getLogger(__name__)

REMEDY = 'write {"<file name of the image>": [[i, j, k, label], ...]}'


def read_clicks(path: str | Path | None, images: Sequence[str | Path]) -> list[dict[str, Any]]:
    """List images with the clicks on them.

    Args:
        path: JSON file: file name of an image -> its clicks, [i, j, k, label] each: array indices of a voxel from 0,
            and 1 for the object or 0 for the background. None gives no clicks.
        images: paths.

    Returns:
        one {"image", "clicks"} an image.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds something else, or clicks on an image that is not listed, or see `image_items`.
    """
    items = image_items(images)
    if path is None:
        logger.warning("no clicks are given, so every mask will be empty; give a file as clicks")
        return [{**item, "clicks": []} for item in items]
    content = read_json(path, REMEDY)
    names = {Path(image).name for image in images}
    for name, clicks in content.items():
        if name not in names:
            raise ValueError(
                f"{path}: {name!r} is none of the {len(names)} images; correct the name, or list the image."
            )
        if not isinstance(clicks, list) or not all(isinstance(click, list) for click in clicks):
            raise ValueError(f"{path}: expected a list of clicks on {name!r}, but got {clicks!r}; {REMEDY}.")
    return [{**item, "clicks": content.get(Path(item["image"]).name, [])} for item in items]
