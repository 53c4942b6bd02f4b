"""BraTS 2019 (Brain Tumor Segmentation Challenge) as downloaded, and in Decathlon layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple, look_up_option

from ..io import Volume, check_same_grid, load_mask, load_volume, read_grid, write_nifti
from ..progress import show_progress
from .decathlon import check_decathlon_output, claim_cases, image_path, label_path, link_once, write_dataset_json
from .summary import NO_IMAGE, OTHER_NAME, skipped_files

__all__ = ["is_brats2019", "list_brats2019", "prepare_brats2019", "skipped_of_brats2019"]

NAME = "BraTS2019"
MASK = "seg"
MODALITIES = ("flair", "t1", "t1ce", "t2")
# no voxel has the value 3: the challenge merged it into 1 in 2017
LABELS = ("background", "necrosis and non-enhancing tumour", "oedema", "unused", "enhancing tumour")
GRADES = ("HGG", "LGG")  # high-grade and low-grade glioma; validation cases lie in neither
REMEDY = "give the folder that holds HGG and LGG, for example MICCAI_BraTS_2019_Data_Training"


def is_brats2019(root: Path) -> bool:
    """Whether a folder holds images with the names of BraTS 2019 at any depth."""
    return any(_modality(path) for path in root.rglob("*"))


def list_brats2019(root: str | Path, modality: str | Sequence[str] = "flair") -> list[dict[str, Any]]:
    """List the cases of BraTS 2019 as downloaded.

    Names may be in upper case, and files may lie directly in HGG and LGG or deeper than downloaded.

    Args:
        root: folder that holds HGG/<case>/ and LGG/<case>/, or one of them, at any depth. Validation cases may lie
            beside them.
        modality: which of the images of a case: "flair", "t1", "t1ce" or "t2", or several of them.

    Returns:
        one {"case", "image", "label", "grade"} a case, sorted by name, with absolute paths; "image" is a list when
        several modalities are asked for. "grade" is "HGG" or "LGG". Validation cases, which lie in neither folder, have
        no "grade", and no "label" where there is no mask. No volume is opened.

    Raises:
        FileNotFoundError: when there is no image, a case lacks a modality, or an image in HGG or LGG its mask.
        ValueError: when the modality is unknown, or a case or a mask is there twice.
    """
    modalities = [look_up_option(name, MODALITIES) for name in ensure_tuple(modality)]
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; {REMEDY}.")
    found: dict[str, dict[str, Path]] = {kind: {} for kind in (*modalities, MASK)}
    for path in sorted(root.rglob("*")):
        kind = _modality(path)
        if kind in found and path.is_file():
            case = path.name[: path.name.lower().rindex(f"_{kind}.nii")]
            if case in found[kind]:
                raise ValueError(f"{path} is there a second time as {found[kind][case]}; remove one of them.")
            found[kind][case] = path
    first = found[modalities[0]]
    if not first:
        raise FileNotFoundError(
            f"{root} holds no image that ends in _{modalities[0]}.nii.gz or _{modalities[0]}.nii; {REMEDY}."
        )
    for kind in modalities:
        lacking = sorted({case for other in modalities for case in found[other]} - set(found[kind]))
        if lacking:
            raise FileNotFoundError(
                f"{root}: {len(lacking)} cases have no {kind} image, for example {lacking[0]}; download it, or leave "
                f"{kind} out of modalities."
            )
    return [
        _case_files(case, [found[kind][case] for kind in modalities], found[MASK].get(case)) for case in sorted(first)
    ]


def _modality(path: Path) -> str | None:
    """Modality that a file's name ends in, or "seg"; None for other files."""
    stem = path.name.lower().removesuffix(".gz")
    # archives from a Mac hold a hidden file beside every file
    if not stem.endswith(".nii") or stem.startswith("."):
        return None
    kind = stem.removesuffix(".nii").rpartition("_")[2]
    return kind if kind in (*MODALITIES, MASK) else None


def prepare_brats2019(source: str | Path, output: str | Path, modality: str = "flair", progress: bool = True) -> Path:
    """Give one modality of BraTS 2019 the Decathlon layout, by symbolic links to the files as downloaded.

    Compressed files are linked, and only their headers are read; plain .nii files are read and written again as
    .nii.gz. Validation cases, which have no mask, are listed under "test". cases.json keeps the grade of every case and
    where its files come from. A run that was interrupted goes on where it stopped.

    Args:
        source: see `list_brats2019`.
        output: folder to write imagesTr/, labelsTr/, imagesTs/, dataset.json and cases.json to.
        modality: see `list_brats2019`; every modality needs an output folder of its own.
        progress: show a progress bar.

    Returns:
        path of dataset.json, which is written last.

    Raises:
        FileNotFoundError: see `list_brats2019`.
        ValueError: see `list_brats2019`; also when a file is damaged, a mask lies on another grid than its image, or
            the output was made from other files.
    """
    cases = {item["case"]: item for item in list_brats2019(source, modality)}
    output = Path(output).expanduser()
    check_decathlon_output(output, NAME)
    kept = {name: {**item, "grade": item.get("grade")} for name, item in cases.items()}
    claim_cases(output, kept, f"files than the {modality} images of source")
    for name, item in show_progress(cases.items(), "prepare brats2019", "case", enabled=progress):
        grid = read_grid(item["image"])
        if "label" in item:
            check_same_grid(grid, read_grid(item["label"]))
            _place(item["label"], label_path(output, name), load_mask)
        _place(item["image"], image_path(output, name, "training" if "label" in item else "test"), load_volume)
    test = [name for name, item in cases.items() if "label" not in item]
    return write_dataset_json(output, NAME, f"BraTS 2019, glioma, {modality} MRI", LABELS, kept, test=test)


def skipped_of_brats2019(
    source: str | Path, output: str | Path | None = None, modality: str = "flair"
) -> dict[str, list[Path]]:
    """Volumes that `prepare_brats2019` leaves out, by the reason why, see `skipped_files`."""
    return skipped_files(source, list_brats2019(source, modality), _why_skipped, output)


def _why_skipped(path: Path) -> str:
    kind = _modality(path)
    if kind == MASK:
        return NO_IMAGE
    return f"of modality {kind}, which was not asked for" if kind else OTHER_NAME


def _case_files(case: str, images: list[Path], mask: Path | None) -> dict[str, Any]:
    """Item of a case's images, with mask and grade where they exist."""
    paths = [str(path) for path in images]
    item: dict[str, Any] = {"case": case, "image": paths if len(paths) > 1 else paths[0]}
    if mask is not None:
        item["label"] = str(mask)
    grade = next((folder.name.upper() for folder in images[0].parents if folder.name.upper() in GRADES), None)
    if grade is not None:
        if mask is None:
            missing = images[0].with_name(f"{case}_{MASK}.nii.gz")
            raise FileNotFoundError(
                f"{missing} does not exist; download the mask, or move the folder of {case} out of {grade}."
            )
        item["grade"] = grade
    return item


def _place(source: str, target: Path, read: Callable[[str], Volume]) -> None:
    """Link a .nii.gz file; write a .nii file again as .nii.gz, because readers go by the name."""
    if not source.endswith(".gz"):
        if not target.is_file():
            volume = read(source)
            write_nifti(volume.array, volume.affine, target)
    else:
        link_once(source, target)
