"""List and split the cases of a data set in any layout that the readers know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..folds import read_split, split_cases
from .abdomenct1k import is_abdomenct1k, list_abdomenct1k
from .brats2019 import is_brats2019, list_brats2019
from .decathlon import decathlon_cases, is_decathlon
from .image_folder import is_image_folder, list_image_folder

__all__ = ["LAYOUTS", "images_only", "list_cases", "split_dataset"]

Case = dict[str, Any]

# layout -> whether a folder has it; the first that fits is taken
LAYOUTS: dict[str, Callable[[Path], bool]] = {
    "decathlon": is_decathlon,
    "abdomenct1k": is_abdomenct1k,
    "brats2019": is_brats2019,
    "folder": is_image_folder,
}


def list_cases(
    dataset_dir: str | Path,
    layout: str | None = None,
    modalities: Sequence[str] | None = None,
    check_masks: bool = True,
    check_images: bool = True,
) -> list[Case]:
    """List the cases of a data set as downloaded, or of a folder of images; no volume is opened.

    Args:
        dataset_dir: its folder; for images of one's own see `list_image_folder`.
        layout: one of `LAYOUTS`; found from what the folder holds without.
        modalities: which images of a case become channels, in their order, where a case has several: those of BraTS
            2019 are "flair", "t1", "t1ce" and "t2"; "flair" without.
        check_masks: whether listed masks must exist. Who opens only some of them finds out about those.
        check_images: whether listed images must exist.

    Returns:
        {"case", "image"} and, where there is a mask, "label" of every case, paths absolute. With several modalities
        "image" is a list of paths.

    Raises:
        FileNotFoundError: when a file or folder is missing.
        ValueError: when the layout is unknown or not found, or files are there twice or wrong.
    """
    root = Path(dataset_dir).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"dataset_dir: {root} is no folder; correct the path.")
    if layout is None:
        layout = next((name for name, fits in LAYOUTS.items() if fits(root)), None)
    if layout is None:
        raise FileNotFoundError(
            f"dataset_dir: {root} holds no data set in a layout that is known ({', '.join(LAYOUTS)}); give the folder "
            "that holds dataset.json (as Task02_Heart does), HGG and LGG, Image and Mask, or images of your own."
        )
    look_up_option(layout, list(LAYOUTS))
    if layout == "brats2019":
        return list_brats2019(root, modalities or "flair")
    if modalities and len(modalities) > 1:
        raise ValueError(f"modalities: expected one for a data set of layout {layout!r}, but got {list(modalities)}.")
    if layout == "abdomenct1k":
        return list_abdomenct1k(root)
    if layout == "folder":
        return list_image_folder(root)
    return decathlon_cases(root, check_masks=check_masks, check_images=check_images)


def images_only(cases: Sequence[Case]) -> list[Case]:
    """Cases without their masks, for what must not open these."""
    return [{key: value for key, value in case.items() if key != "label"} for case in cases]


def split_dataset(
    dataset_dir: str | Path,
    num_folds: int = 5,
    fold: int = 0,
    seed: int = 0,
    num_test: int = 0,
    split_file: str | Path | None = None,
    check_masks: bool = True,
    groups: str | Path | None = None,
    layout: str | None = None,
    modalities: Sequence[str] | None = None,
) -> dict[str, list[Case]]:
    """List the cases of a data set for training, validation and test; no volume is opened.

    Args:
        dataset_dir: see `list_cases`.
        num_folds: see `split_cases`.
        fold: see `split_cases`.
        seed: see `split_cases`.
        num_test: see `split_cases`.
        split_file: explicit lists of cases instead of folds, see `read_split`.
        check_masks: see `list_cases`.
        groups: which cases are of one patient, see `split_cases`; None when every case is a patient of its own.
        layout: see `list_cases`.
        modalities: see `list_cases`.

    Returns:
        {"train": ..., "validation": ..., "test": ...} of items as `list_cases` gives them.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when the data set, the folds or the lists are wrong.
    """
    cases = list_cases(dataset_dir, layout, modalities, check_masks)
    if split_file:
        return read_split(split_file, cases, groups)
    return split_cases(cases, num_folds, fold, seed, num_test, groups)
