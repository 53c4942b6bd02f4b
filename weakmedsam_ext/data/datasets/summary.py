"""What a preparation has found: one table of cases, sizes, and the files that no case uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ..cases import images_of
from ..io import read_json
from ..nifti import unit_of
from ..volume_formats import NIFTI, is_volume_file

__all__ = ["case_table", "dataset_table", "skipped_files"]

HDF5 = ".h5"
# reasons why a file belongs to no case
NO_IMAGE, OTHER_NAME = "masks without their image", "not named as files of this data set are"
Skipped = Mapping[str, Sequence[Path]]


def dataset_table(dataset_dir: str | Path, skipped: Skipped | None = None) -> str:
    """Table of a prepared data set in Decathlon layout, see `case_table`.

    Args:
        dataset_dir: the folder that holds dataset.json.
        skipped: see `skipped_files`; those that dataset.json does not list without.

    Raises:
        FileNotFoundError: when there is no dataset.json.
        ValueError: when it is no JSON object.
    """
    root = Path(dataset_dir).expanduser().absolute()
    content = read_json(root / "dataset.json", "prepare the data set first")
    listed = [*content.get("training", ()), *content.get("test", ())]
    entries = [{"image": one} if isinstance(one, str) else one for one in listed]
    cases = [{key: os.path.normpath(root / one[key]) for key in ("image", "label") if one.get(key)} for one in entries]
    if skipped is None:
        skipped = skipped_files(root, cases, lambda path: "dataset.json does not list them")
    modality = content.get("modality")
    return case_table(cases, skipped, list(modality.values()) if isinstance(modality, dict) else ())


def case_table(cases: Sequence[Mapping[str, Any]], skipped: Skipped, modalities: Sequence[str] = ()) -> str:
    """Table of cases: how many have a mask, modalities, ranges of size and spacing, and what was skipped and why.

    Sizes are those of NIfTI files; only headers are read. A file whose header cannot be read is named.

    Args:
        cases: items with "image" and, where there is a mask, "label".
        skipped: see `skipped_files`.
        modalities: names of the channels.
    """
    labelled = sum("label" in case for case in cases)
    rows = [("cases", f"{len(cases)}: {labelled} with a mask, {len(cases) - labelled} without")]
    if modalities:
        rows.append(("modalities", ", ".join(map(str, modalities))))
    shapes, sizes, damaged = _grids(path for case in cases for path in images_of(case) if path.endswith(NIFTI))
    if shapes:
        rows += [("voxels", _ranges(shapes)), ("voxel size", f"{_ranges(sizes)} mm")]
    if damaged:
        rows.append(("unreadable", f"{_counted(damaged)}; download, export or compute what is damaged again"))
    rows += [("skipped", f"{_counted(paths)}: {reason}") for reason, paths in skipped.items()]
    if not skipped:
        rows.append(("skipped", "nothing"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {text}" for name, text in rows)


def skipped_files(
    source: str | Path,
    cases: Iterable[Mapping[str, Any]],
    reason: Callable[[Path], str],
    output: str | Path | None = None,
) -> dict[str, list[Path]]:
    """Volumes below a folder that are neither image nor mask of a case, by the reason why.

    Args:
        source: the folder that was prepared. Hidden files, such as those beside every file in archives from a Mac, and
            files of other kinds are left out.
        cases: items with "image" and, where there is a mask, "label".
        reason: why a file belongs to no case, for "3 files, for example a.nii.gz: <reason>".
        output: a folder that may lie in the source and is no part of it.
    """
    used = {os.path.abspath(path) for case in cases for path in (*images_of(case), case.get("label", ""))}
    root = Path(source).expanduser().absolute()
    found: dict[str, list[Path]] = {}
    aside = None if output is None else Path(output).expanduser().absolute()
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root).parts
        known = is_volume_file(path) or path.suffix == HDF5
        if not known or str(path) in used or any(part.startswith((".", "__")) for part in inner):
            continue
        if path.is_file() and not (aside and aside != root and path.is_relative_to(aside)):
            found.setdefault(reason(path), []).append(path)
    return found


def _grids(paths: Iterable[str]) -> tuple[list[Sequence[float]], list[Sequence[float]], list[Path]]:
    """Shapes and voxel sizes in mm along the first three axes, and files without a readable header."""
    shapes, sizes, damaged = [], [], []
    for path in paths:
        try:
            image: Any = nib.load(path)
            shape, size = image.shape[:3], np.array(image.header.get_zooms()[:3]) * unit_of(image)
        except Exception:  # noqa: BLE001 damaged files raise whatever zlib or nibabel meet first
            damaged.append(Path(path))
            continue
        if len(shape) == 3:
            shapes.append(shape)
            sizes.append(size.tolist())
    return shapes, sizes, damaged


def _ranges(rows: Sequence[Sequence[float]]) -> str:
    """Smallest and largest number along each axis: "36-40 x 40 x 14"."""
    columns = [(f"{min(column):.4g}", f"{max(column):.4g}") for column in zip(*rows, strict=True)]
    return " x ".join(least if least == most else f"{least}-{most}" for least, most in columns)


def _counted(paths: Sequence[Path]) -> str:
    one = len(paths) == 1
    return f"1 file, {paths[0].name}" if one else f"{len(paths)} files, for example {paths[0].name}"
