"""The 2018 left atrium challenge in Decathlon layout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..io import Volume, load_mask, load_volume, write_nifti
from ..progress import show_progress
from .decathlon import check_decathlon_output, claim_cases, image_path, label_path, write_dataset_json
from .summary import NO_IMAGE, OTHER_NAME, skipped_files

__all__ = ["prepare_la2018", "skipped_of_la2018"]

logger = logging.getLogger(__name__)

NAME = "LA2018"
LABELS = ("background", "left atrium")
CHALLENGE_IMAGE, CHALLENGE_LABEL, UA_MT = "lgemri.nrrd", "laendo.nrrd", "mri_norm2.h5"
LISTS = ("train.list", "test.list")
# The h5 files keep neither spacing nor orientation. Their arrays are the challenge's: 0.625 mm isotropic, first axis to
# the patient's left, second to the back, third to the head; NIfTI counts right to left and back to front.
H5_AFFINE = np.diag([-0.625, -0.625, 0.625, 1.0])
# masks are 0/1 in the h5 files and 0/255 in the challenge's
LABEL_VALUES = ({0}, {0, 1}, {0, 255})


class _Source(NamedTuple):
    """Files of one case, and the list that names it."""

    case: str
    image: Path
    label: Path
    listed_in: str | None


def prepare_la2018(source: str | Path, output: str | Path, progress: bool = True) -> Path:
    """Turn the left atrium challenge's training cases into the Decathlon layout.

    Reads the challenge's own files (<case>/lgemri.nrrd, <case>/laendo.nrrd), which carry their spacing, or those that
    come with UA-MT (<case>/mri_norm2.h5, cropped and z-scored), wherever they lie below `source`. Cases are numbered in
    the order of train.list, then test.list where there are such files, then by name; cases.json keeps the original name
    of every case, the list that it comes from and which file was read. A conversion that was interrupted goes on where
    it stopped.

    Args:
        source: folder with one folder a case, at any depth.
        output: folder to write imagesTr/, labelsTr/, dataset.json and cases.json to.
        progress: show a progress bar.

    Returns:
        path of dataset.json, which is written last.

    Raises:
        FileNotFoundError: when there is no case, or a listed case or a mask is missing.
        ValueError: when a file is damaged, image and mask differ in shape, voxels are NaN or infinite, label values are
            unknown, or the output holds other cases.
        ImportError: when h5 files are to be read and h5py is not installed.
    """
    sources = _find_cases(Path(source).expanduser())
    output = Path(output).expanduser()
    check_decathlon_output(output, NAME)
    named = {f"la_{number:03d}": item for number, item in enumerate(sources, start=1)}
    cases = {name: {"case": item.case, "list": item.listed_in, "file": item.image.name} for name, item in named.items()}
    claim_cases(output, cases, "cases than source holds")
    for name, item in show_progress(named.items(), "prepare la2018", "case", enabled=progress):
        if image_path(output, name).is_file() and label_path(output, name).is_file():
            continue
        image, label = _read_h5(item.image) if item.image.name == UA_MT else _read_nrrd(item)
        write_nifti(label, image.affine, label_path(output, name))
        write_nifti(image.array, image.affine, image_path(output, name))
    return write_dataset_json(output, NAME, "2018 Left Atrium Segmentation Challenge, LGE-MRI", LABELS, cases)


def skipped_of_la2018(source: str | Path, output: str | Path | None = None) -> dict[str, list[Path]]:
    """Volumes that `prepare_la2018` leaves out, by the reason why, see `skipped_files`."""
    cases = [{"image": str(item.image), "label": str(item.label)} for item in _find_cases(Path(source).expanduser())]
    return skipped_files(source, cases, _why_skipped, output)


def _why_skipped(path: Path) -> str:
    if path.name == UA_MT:
        return f"{CHALLENGE_IMAGE} of the case is taken, which has the true spacing"
    if path.name == CHALLENGE_LABEL:
        return NO_IMAGE
    return OTHER_NAME


def _find_cases(source: Path) -> list[_Source]:
    """Cases in the order of their lists; the challenge's own files are preferred because they hold the true spacing."""
    if not source.is_dir():
        raise FileNotFoundError(f"source {source} is no folder; give the folder that holds the cases.")
    # the challenge's own file of a case goes before that of UA-MT
    files = {**_by_case(source, UA_MT), **_by_case(source, CHALLENGE_IMAGE)}
    if not files:
        raise FileNotFoundError(
            f"source {source} holds neither {CHALLENGE_IMAGE} nor {UA_MT}; give the extracted folder."
        )
    listed_in: dict[str, str | None] = {}
    for name in LISTS:
        for path in sorted(source.rglob(name)):
            for case in _listed_cases(path):
                if case not in files:
                    raise FileNotFoundError(
                        f"{path} names {case}, but {source} has no such case; download it, or remove it from the list."
                    )
                listed_in.setdefault(case, name)
    listed_in.update({case: None for case in sorted(files) if case not in listed_in})
    sources = []
    for case, listing in listed_in.items():
        label = files[case] if files[case].name == UA_MT else files[case].with_name(CHALLENGE_LABEL)
        if not label.is_file():
            raise FileNotFoundError(f"{label} does not exist; download the mask, or remove the folder of {case}.")
        sources.append(_Source(case, files[case], label, listing))
    return sources


def _by_case(source: Path, name: str) -> dict[str, Path]:
    """Case -> its file of a name, at any depth."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in source.rglob(name) if path.is_file()):
        first = found.setdefault(path.parent.name, path)
        if first != path:
            raise ValueError(f"{path} is there a second time as {first}; remove one of the two folders.")
    return found


def _listed_cases(path: Path) -> list[str]:
    """Names in a list, each a folder's name or a path to the case's file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error}); save it as UTF-8.") from error
    names = [line.strip().replace("\\", "/") for line in lines]
    return [Path(name).parent.name if name.endswith((UA_MT, CHALLENGE_IMAGE)) else name for name in names if name]


def _read_h5(path: Path) -> tuple[Volume, np.ndarray]:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f'{path} needs h5py; run: pip install "weakmedsam-ext[hdf5]".') from error
    try:
        with h5py.File(path) as file:
            for key in ("image", "label"):
                if not isinstance(file[key], h5py.Dataset) or file[key].dtype.kind not in "biuf":
                    raise ValueError(f"{key!r} is no array of numbers")
            image, label = np.asarray(file["image"], dtype=np.float32), np.asarray(file["label"])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or lacks 'image' or 'label' ({reason}); download it again.") from error
    if image.ndim != 3:
        raise ValueError(f"{path}: expected a 3-D image, but got shape {image.shape}; download it again.")
    if not np.isfinite(image).all():
        raise ValueError(f"{path}: the image has NaN or infinite voxels; download it again.")
    volume = Volume(path, image.shape, H5_AFFINE, image)
    return volume, _binary(path, label, image.shape)


def _read_nrrd(source: _Source) -> tuple[Volume, np.ndarray]:
    image, mask = load_volume(source.image), load_mask(source.label)
    label = _binary(mask.path, mask.array, image.shape)
    if not np.allclose(image.affine, mask.affine, atol=1e-3):
        # the challenge's masks are voxel by voxel drawn on the image, whatever their header says
        logger.warning("%s: header differs from the image's; the mask is placed on the image's voxels.", mask.path)
    return image, label


def _binary(path: Path, label: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if label.shape != shape:
        raise ValueError(
            f"{path}: expected a mask of the image's shape {shape}, but got {label.shape}; pair the files."
        )
    rounded = np.rint(label)
    label = rounded.astype(np.int64) if np.allclose(rounded, label, atol=1e-3) else label
    values = set(np.unique(label).tolist())
    if values not in LABEL_VALUES:
        raise ValueError(
            f"{path}: expected label values 0 and 1 or 255, but got {sorted(values)}; give the atrium's mask."
        )
    return (label > 0).astype(np.uint8)
