"""Images without a label in the study folder of an annotation server, for semi-supervised training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset

from .cases import case_name
from .volume_formats import is_volume_file, visible_files

__all__ = ["cache_with_unlabelled", "with_unlabelled"]

FINAL_LABELS = ("labels", "final")


def with_unlabelled(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add the images of MONAI Label's study folder that nobody has labelled to the items that it trains on.

    MONAI Label gives a training its labelled images alone. It keeps labels in `labels/final` of the folder with the
    images. Items whose labels lie elsewhere, or that have none, are returned as they are.

    Args:
        items: {"image", "label"} of labelled cases, and {"image"} of others.

    Returns:
        the items, then {"image"} of every other image of the study folder without a final label, sorted by path. An
        image that is held out for validation has a label, so it is not among them.
    """
    folders = sorted({Path(item["image"]).parent for item in items if _is_of_store(item)})
    listed = {str(Path(item["image"])) for item in items if isinstance(item["image"], (str, Path))}
    added = []
    for folder in folders:
        labelled = {case_name(str(path)) for path in visible_files(folder.joinpath(*FINAL_LABELS))}
        added += [
            {"image": str(path)}
            for path in visible_files(folder)
            if is_volume_file(path) and str(path) not in listed and case_name(str(path)) not in labelled
        ]
    return [*map(dict, items), *added]


def cache_with_unlabelled(
    data: Sequence[Mapping[str, Any]], transform: Any = None, cache_num: int = 1000, progress: bool = True
) -> CacheDataset:
    """MONAI's `CacheDataset` of `with_unlabelled(data)`; a config's `data` stays what an annotation server replaces."""
    return CacheDataset(with_unlabelled(data), transform, cache_num=cache_num, progress=progress)


def _is_of_store(item: Mapping[str, Any]) -> bool:
    """Whether a case lies in a study folder: labels/final beside its image."""
    if "label" not in item or not isinstance(item["image"], (str, Path)):
        return False
    return Path(item["label"]).parent == Path(item["image"]).parent.joinpath(*FINAL_LABELS)
