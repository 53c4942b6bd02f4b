"""Read volumes with checks; write files atomically."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import ITKReader

from .cases import images_of
from .nifti import affine_of, open_nifti, read_nifti, three_axes
from .volume_formats import (
    DICOM,
    ITK,
    NIFTI,
    PICTURES,
    check_grey,
    check_itk_size,
    is_dicom,
    is_picture,
    is_volume_file,
    read_dicom,
    read_picture,
    visible_files,
)

__all__ = [
    "Grid",
    "Volume",
    "atomic_path",
    "check_same_grid",
    "decode_volume",
    "file_hash",
    "load_mask",
    "load_volume",
    "naming_full_disk",
    "read_grid",
    "read_json",
    "set_aside",
    "volume_of",
    "write_json",
    "write_nifti",
]

FULL = (errno.ENOSPC, errno.EDQUOT)
SHORT_WRITE = re.compile(r"^\d+ requested and \d+ written|unexpected pos \d+ vs|file write failed")
LABEL_TOLERANCE = 1e-3
MAX_LABEL = 2**24  # float32 holds all whole numbers up to this
AFFINE_TOLERANCE = 1e-3  # mm; headers store single precision


@dataclass(frozen=True, eq=False)
class Grid:
    """Grid of a volume file: array shape, and affine from voxel indices to RAS millimetres."""

    path: Path
    shape: tuple[int, int, int]
    affine: np.ndarray


@dataclass(frozen=True, eq=False)
class Volume(Grid):
    """A volume (X, Y, Z) in memory, on its grid."""

    array: np.ndarray


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Context with a temporary path that becomes `path` if the block ends without an error.

    A process that is killed leaves no `path` that looks finished, at most a file that ends in ".partial". Its name
    holds the process id, so that two runs that fill the same folder do not write into each other's file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with naming_full_disk(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Raise what says that the disk is full as one error with the file's name, which numpy and torch leave out."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if _tells_full_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _tells_full_disk(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, means that the disk or the quota is used up."""
    while error is not None:
        text = str(error)
        # numpy counts the numbers that it could write; torch's writer finds itself elsewhere than it should be
        if getattr(error, "errno", None) in FULL or SHORT_WRITE.search(text) or os.strerror(errno.ENOSPC) in text:
            return True
        error = error.__cause__ or error.__context__
    return False


def set_aside(path: str | Path, keep: bool = False) -> None:
    """Rename weights that are to be made anew, and what is known of them, to `*.previous.pt` and `*.previous.json`.

    Args:
        path: of the weights; nothing happens where there are none.
        keep: copy them instead, for those who go on reading them until they are replaced.
    """
    path = Path(path)
    for old in (path, path.with_suffix(".json")) if path.exists() else ():
        if not old.exists():
            continue
        previous = old.with_name(f"{old.stem}.previous{old.suffix}")
        if keep:
            with atomic_path(previous) as temporary:
                shutil.copyfile(old, temporary)
        else:
            old.replace(previous)


def write_json(content: Any, path: str | Path) -> None:
    """Write JSON, complete or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_json(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        remedy: what the user can do when it is missing or damaged; ends the error message.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {remedy}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no valid JSON ({error}); {remedy}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, but got {type(content).__name__}; {remedy}.")
    return content


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's content as 32 hexadecimal digits; `content_hash` remembers it.

    That of a folder, which is one image, is the SHA-256 of the names and hashes of its files, without hidden ones.

    Raises:
        FileNotFoundError: when there is no such file, or no file in the folder.
    """
    path = Path(path)
    if os.path.isdir(path):
        hashes = [[file.name, file_hash(file)] for file in visible_files(path)]
        if not hashes:
            raise FileNotFoundError(f"{path} is a folder without files; correct the path.")
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:32]
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the file there.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


def write_nifti(array: np.ndarray, affine: np.ndarray, path: str | Path) -> None:
    """Write a NIfTI file, complete or not at all; the same voxels give the same bytes.

    Args:
        array: voxels (X, Y, Z).
        affine: from voxel indices to RAS millimetres.
        path: ends in ".nii.gz" or ".nii".

    Raises:
        ValueError: when the path has another ending.
    """
    if not str(path).endswith(NIFTI):
        raise ValueError(f"path: expected a file that ends in {' or '.join(NIFTI)}, but got {path}.")
    image = nib.Nifti1Image(array, affine)
    # readers differ in which of the two they prefer, so both say the same; a q-form cannot tell a shear
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    if not np.allclose(image.get_qform(), affine, atol=AFFINE_TOLERANCE):
        image.set_qform(None, code=0)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    with atomic_path(path) as temporary:
        # without a time stamp: caches are keyed by the hash of the file
        temporary.write_bytes(gzip.compress(content, 1, mtime=0) if str(path).endswith(".gz") else content)


def load_volume(path: str | Path) -> Volume:
    """Read a medical volume as float32 and check it.

    Args:
        path: NIfTI (.nii, .nii.gz), NRRD (.nrrd) or MetaImage (.mha); a folder that holds one DICOM series, or one
            DICOM file; PNG or JPEG (.png, .jpg, .jpeg), a volume of one slice, in which colour has become luminance,
            the mean of the channels.

    Returns:
        the volume, axes as stored, affine in RAS.

    Raises:
        FileNotFoundError: when there is no such file, or no DICOM file in the folder.
        ValueError: when the file is damaged, no medical volume or not 3-D, holds complex numbers, colour (other than
            PNG and JPEG), NaN or infinity, or a folder holds several DICOM series or one with missing slices.
    """
    return volume_of(path, *decode_volume(path))


def volume_of(path: str | Path, array: np.ndarray, meta: Mapping[str, Any]) -> Volume:
    """Volume from what `decode_volume` gives."""
    x, y, z = array.shape
    return Volume(Path(path), (x, y, z), np.asarray(meta["affine"], dtype=np.float64), array)


def decode_volume(path: str | Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels and MONAI's metadata of a medical volume, checked as `load_volume` says."""
    path = _existing(path)
    try:
        array, meta = _decoded(path)
        array = np.asarray(array, dtype=np.float32)
    except Exception as error:  # damaged files raise whatever zlib, nibabel or ITK meet first
        raise _unreadable(path, error) from error
    _checked_shape(path, array.shape)
    if not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(f"{path}: {count} voxels are NaN or infinite; replace them, or export the volume again.")
    return array, meta


def _decoded(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Voxels and metadata as a reader gives them."""
    if os.path.isdir(path) or is_dicom(path):
        return read_dicom(path)
    if is_picture(path):
        return read_picture(path)
    if str(path).endswith(NIFTI):
        return read_nifti(path)
    check_itk_size(path)
    reader = ITKReader()
    image = reader.read(path)
    check_grey(image, path)
    return reader.get_data(image)


def load_mask(path: str | Path) -> Volume:
    """Read a segmentation as int32, see `load_volume`.

    Raises:
        ValueError: also when a value is no whole number.
    """
    mask = load_volume(path)
    rounded = np.rint(mask.array)
    # slopes and exports leave whole numbers a rounding away from themselves
    if np.abs(rounded - mask.array).max() > LABEL_TOLERANCE:
        raise ValueError(f"{mask.path}: expected whole label values, but got fractions; resample masks with nearest.")
    if np.abs(rounded).max() > MAX_LABEL:
        raise ValueError(
            f"{mask.path}: expected label values up to {MAX_LABEL}, but got {np.abs(rounded).max():.0f}; "
            "give the mask, not an image."
        )
    return Volume(mask.path, mask.shape, mask.affine, rounded.astype(np.int32))


def load_case_mask(item: Mapping[str, Any]) -> Volume:
    """Read the mask of an item with "image" and "label" (paths), and check that it lies on its image.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when a file is damaged, or the grids differ; see `load_mask` and `check_same_grid`.
    """
    mask = load_mask(item["label"])
    check_same_grid(read_grid(images_of(item)[0]), mask)
    return mask


def read_grid(path: str | Path) -> Grid:
    """Read the grid of a volume; NIfTI voxels are not decoded for it.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, no medical volume or not 3-D.
    """
    path = _existing(path)
    if not str(path).endswith(NIFTI):
        return load_volume(path)
    try:
        image = open_nifti(path)
    except Exception as error:
        raise _unreadable(path, error) from error
    return Grid(path, _checked_shape(path, three_axes(image.shape)), affine_of(image))


def check_same_grid(image: Grid, mask: Grid) -> None:
    """Check that a mask lies on the voxels of its image.

    Pictures (PNG, JPEG) have no place in space, so only the shape counts where one of both is a picture.

    Raises:
        ValueError: when the shapes or the affines differ.
    """
    if image.shape != mask.shape:
        raise ValueError(
            f"{mask.path}: expected the shape {image.shape} of {image.path}, but got {mask.shape}; "
            "resample the mask to the image with nearest, or pair the right files."
        )
    if is_picture(image.path) or is_picture(mask.path):
        return
    if not np.allclose(image.affine, mask.affine, atol=AFFINE_TOLERANCE):
        raise ValueError(
            f"{mask.path}: its affine differs from that of {image.path} by up to "
            f"{np.abs(image.affine - mask.affine).max():.3g}; resample the mask with nearest, or correct its header."
        )


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} does not exist; correct the path, or put the file there.")
    if not (os.path.isdir(path) or is_volume_file(path) or is_dicom(path)):
        known = ", ".join((*NIFTI, *ITK, DICOM, *PICTURES))
        raise ValueError(f"{path}: expected a medical volume ({known}, or a DICOM folder); convert it to .nii.gz.")
    return path


def _unreadable(path: Path, error: Exception) -> Exception:
    if isinstance(error, (FileNotFoundError, ValueError)) and str(error).startswith(str(path)):
        return error  # a sentence already
    if isinstance(error, MemoryError):
        return ValueError(f"{path}: its voxels need more memory than is free; crop or resample the volume.")
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(
        f"{path} is damaged or no medical volume ({reason[-200:]}); download, export or compute it again."
    )


def _checked_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"{path}: expected a 3-D volume, but got shape {tuple(shape)}; give one volume a file.")
    return shape[0], shape[1], shape[2]
