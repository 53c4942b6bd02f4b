"""Download and extract tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from monai.apps import DecathlonDataset
from monai.apps.utils import check_hash, download_url, extractall, logger
from monai.utils import look_up_option

from ..io import naming_full_disk
from .decathlon import decathlon_cases

__all__ = ["MSD_TASKS", "msd_folder", "prepare_msd"]

# name of the command -> name of the task, of its folder and of its tar file
MSD_TASKS = {
    "msd_brain_tumour": "Task01_BrainTumour",
    "msd_heart": "Task02_Heart",
    "msd_liver": "Task03_Liver",
    "msd_hippocampus": "Task04_Hippocampus",
    "msd_prostate": "Task05_Prostate",
    "msd_lung": "Task06_Lung",
    "msd_pancreas": "Task07_Pancreas",
    "msd_hepatic_vessel": "Task08_HepaticVessel",
    "msd_spleen": "Task09_Spleen",
    "msd_colon": "Task10_Colon",
}
# addresses and MD5 sums by task; MONAI keeps a copy of the tar files, whose first home needs a browser
ADDRESSES = DecathlonDataset.resource
HASHES = DecathlonDataset.md5


def msd_folder(task: str, output: str | Path) -> Path:
    """Folder of a task, for example output/Task02_Heart.

    Args:
        task: one of `MSD_TASKS`.
        output: folder that it lies in.

    Raises:
        ValueError: when the task is unknown.
    """
    return Path(output).expanduser() / MSD_TASKS[look_up_option(task, list(MSD_TASKS))]


def prepare_msd(task: str, output: str | Path, source: str | Path | None = None, download: bool = False) -> Path:
    """Extract a task of the Medical Segmentation Decathlon, and download it before on request.

    The folder appears when it is complete: what an interrupted run left is removed by the next one. A downloaded tar
    file stays in the output folder. It is used again when its MD5 sum is right, and fetched anew otherwise.

    Args:
        task: one of `MSD_TASKS`, for example "msd_heart".
        output: folder to make the task's folder in. When that is there already, nothing is done.
        source: the task's tar file, when it is downloaded already.
        download: fetch the tar file to output first, from where MONAI keeps it.

    Returns:
        the task's folder, which holds dataset.json.

    Raises:
        FileNotFoundError: when there is no such tar file, or files are missing in the task's folder.
        ConnectionError: when the download fails.
        ValueError: when the task is unknown, not one of source and download is given, a file is damaged, or the archive
            would write outside the folder.
    """
    folder = msd_folder(task, output)
    if folder.exists():
        decathlon_cases(folder)
        return folder
    if not isinstance(download, bool):
        raise ValueError(f"download: expected True or False, but got {download!r}.")
    if download == (source is not None):
        got = "both" if download else "neither"
        raise ValueError(f"source, download: expected one of them, but got {got}; give --download or --source TAR.")
    tar = _downloaded(folder) if source is None else _checked(Path(source).expanduser(), folder.name)
    _extract(tar, folder)
    return folder


def _checked(tar: Path, name: str) -> Path:
    """A tar file of the user, if it is the right one."""
    if not tar.is_file():
        raise FileNotFoundError(f"source: {tar} is no file; give {name}.tar as downloaded from {ADDRESSES[name]}.")
    if not check_hash(tar, HASHES[name], "md5"):
        raise ValueError(
            f"source: expected the MD5 sum {HASHES[name]} of {name}, but {tar} has another, so it is "
            f"damaged or another file; download it again from {ADDRESSES[name]}."
        )
    return tar


def _downloaded(folder: Path) -> Path:
    """The tar file beside a task's folder, fetched where it is missing or damaged."""
    tar, address, expected = folder.with_suffix(".tar"), ADDRESSES[folder.name], HASHES[folder.name]
    if tar.exists():
        if check_hash(tar, expected, "md5"):
            return tar
        logger.warning(f"{tar} is damaged or incomplete: deleted, fetched again.")
        tar.unlink()
    folder.parent.mkdir(parents=True, exist_ok=True)
    by_hand = f"download it by hand and give it as --source {tar.name}"
    try:
        with naming_full_disk(tar):
            download_url(address, tar, expected, "md5")
    except (URLError, HTTPException, ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        if "check of downloaded file failed" in str(error):  # a ValueError from MONAI 1.6 on, a RuntimeError before
            tar.unlink(missing_ok=True)  # which leaves the file
            raise ValueError(
                f"download: expected the MD5 sum {expected}, but {address} has another; run again, or {by_hand}."
            ) from error
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(f"download: {address} cannot be fetched ({reason}); run again, or {by_hand}.") from error
    if not tar.is_file():  # MONAI keeps quiet about a folder without permission
        raise PermissionError(f"output: {tar} cannot be written; give another output folder.")
    return tar


def _extract(tar: Path, folder: Path) -> None:
    """Extract a tar file that holds a task's folder; the folder appears when it is complete."""
    with _temporary_folder(folder) as temporary:
        try:
            with naming_full_disk(folder):
                extractall(tar, temporary, file_type="tar")
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ValueError(
                f"{tar} cannot be extracted ({error}); download it again from {ADDRESSES[folder.name]}."
            ) from error
        if not (temporary / folder.name).is_dir():
            raise ValueError(
                f"{tar}: expected an archive of the folder {folder.name}, but it holds none; download it again from "
                f"{ADDRESSES[folder.name]}."
            )
        decathlon_cases(temporary / folder.name)
        (temporary / folder.name).rename(folder)


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Context with an empty folder beside another; what a killed run left in it is removed."""
    temporary = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
