"""BraTS 2019 (Brain Tumor Segmentation Challenge) as downloaded, and in Decathlon layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monai.utils import look_up_option
from tqdm import tqdm

from ..io import Volume, check_same_grid, load_mask, load_volume, read_grid, write_nifti
from .decathlon import check_decathlon_output, claim_cases, image_path, label_path, link_once, write_dataset_json

__all__ = ["list_brats2019", "prepare_brats2019"]

NAME = "BraTS2019"
MODALITIES = ("flair", "t1", "t1ce", "t2")
# no voxel has the value 3: the challenge merged it into 1 in 2017
LABELS = ("background", "necrosis and non-enhancing tumour", "oedema", "unused", "enhancing tumour")
GRADES = ("HGG", "LGG")  # high-grade and low-grade glioma; validation cases lie in neither
ENDINGS = (".nii.gz", ".nii")
REMEDY = "give the folder that holds HGG and LGG, for example MICCAI_BraTS_2019_Data_Training"


def list_brats2019(root: str | Path, modality: str = "flair") -> list[dict[str, str]]:
    """List the cases of BraTS 2019 as downloaded.

    Args:
        root: folder that holds HGG/<case>/ and LGG/<case>/, or one of them, at any depth. Validation cases may lie
            beside them.
        modality: which of the images of a case: "flair", "t1", "t1ce" or "t2".

    Returns:
        one {"case", "image", "label", "grade"} a case, sorted by name, with absolute paths. "grade" is "HGG" or "LGG".
        Validation cases, which lie in neither folder, have no "grade", and no "label" where there is no mask. No volume
        is opened.

    Raises:
        FileNotFoundError: when there is no image, or no mask for one in HGG or LGG.
        ValueError: when the modality is unknown, or a case or a mask is there twice.
    """
    modality = look_up_option(modality, MODALITIES)
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; {REMEDY}.")
    images: dict[str, Path] = {}
    for path in sorted(root.rglob(f"*_{modality}.nii*")):
        # archives from a Mac hold a hidden file beside every file
        if not path.name.endswith(ENDINGS) or path.name.startswith(".") or not path.is_file():
            continue
        case = path.name.rpartition(f"_{modality}.nii")[0]
        if case in images:
            raise ValueError(f"{path} is there a second time as {images[case]}; remove one of them.")
        images[case] = path
    if not images:
        raise FileNotFoundError(f"{root} holds no image that ends in _{modality}.nii.gz or _{modality}.nii; {REMEDY}.")
    return [_case_files(case, image) for case, image in sorted(images.items())]


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
    for name, item in tqdm(cases.items(), desc="prepare brats2019", unit="case", disable=not progress):
        grid = read_grid(item["image"])
        if "label" in item:
            check_same_grid(grid, read_grid(item["label"]))
            _place(item["label"], label_path(output, name), load_mask)
        _place(item["image"], image_path(output, name, "training" if "label" in item else "test"), load_volume)
    test = [name for name, item in cases.items() if "label" not in item]
    return write_dataset_json(output, NAME, f"BraTS 2019, glioma, {modality} MRI", LABELS, kept, test=test)


def _case_files(case: str, image: Path) -> dict[str, str]:
    """Item of an image, with mask and grade where they exist."""
    masks = [mask for ending in ENDINGS if (mask := image.with_name(f"{case}_seg{ending}")).is_file()]
    if len(masks) > 1:
        raise ValueError(f"{masks[1]} is there a second time as {masks[0]}; remove one of them.")
    item = {"case": case, "image": str(image)}
    if masks:
        item["label"] = str(masks[0])
    grade = image.parent.parent.name
    if grade in GRADES:
        if not masks:
            missing = image.with_name(f"{case}_seg{ENDINGS[0]}")
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
