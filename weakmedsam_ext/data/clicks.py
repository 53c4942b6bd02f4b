"""Read user clicks from a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from .cases import images_of
from .datasets.decathlon import image_items
from .io import read_json

__all__ = ["is_click", "read_clicks"]

logger = logging.getLogger(__name__)

REMEDY = 'write {"<file name of the image>": [[i, j, k, label], ...]}'


def is_click(click: Any) -> bool:
    """Whether something is a click: whole numbers [i, j, k, label], of which label is 1 or 0."""
    return (
        isinstance(click, Sequence)
        and len(click) == 4
        and all(isinstance(number, Integral) and not isinstance(number, bool) for number in click)
        and click[3] in (0, 1)
    )


def read_clicks(path: str | Path | None, images: str | Path | Sequence[Any]) -> list[dict[str, Any]]:
    """List images with the clicks on them.

    Args:
        path: JSON file: file name of an image -> its clicks, [i, j, k, label] each: array indices of a voxel from 0,
            and 1 for the object or 0 for the background. None gives no clicks.
        images: see `image_items`.

    Returns:
        one {"image", "clicks"} an image.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it holds something else, a click that is none, or clicks on an image that is not listed, or see
            `image_items`. Whether a click lies inside its image is known when the image is read, see `DrawClicks`.
    """
    items = image_items(images)
    if path is None:
        logger.warning("no clicks are given, so every mask will be empty; give a file as clicks")
        return [{**item, "clicks": []} for item in items]
    content = read_json(path, REMEDY)
    names = {Path(images_of(item)[0]).name for item in items}
    for name, clicks in content.items():
        if name not in names:
            raise ValueError(
                f"{path}: {name!r} is none of the {len(names)} images; correct the name, or list the image."
            )
        if not isinstance(clicks, list):
            raise ValueError(f"{path}: expected a list of clicks on {name!r}, but got {clicks!r}; {REMEDY}.")
        for click in clicks:
            if not is_click(click):
                raise ValueError(
                    f"{path}: expected whole numbers [i, j, k, label] with label 1 or 0 for every click on {name!r}, "
                    f"but got {click!r}; {REMEDY}."
                )
    return [{**item, "clicks": content.get(Path(images_of(item)[0]).name, [])} for item in items]
