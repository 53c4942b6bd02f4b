"""AbdomenCT-1K (Ma et al., TPAMI 2022) as downloaded, and in Decathlon layout."""

from __future__ import annotations

from pathlib import Path

from ..io import check_same_grid, read_grid
from ..progress import show_progress
from .decathlon import check_decathlon_output, claim_cases, image_path, label_path, link_once, write_dataset_json
from .summary import NO_IMAGE, OTHER_NAME, skipped_files

__all__ = ["is_abdomenct1k", "list_abdomenct1k", "prepare_abdomenct1k", "skipped_of_abdomenct1k"]

NAME = "AbdomenCT-1K"
LABELS = ("background", "liver", "kidney", "spleen", "pancreas")
IMAGE_FOLDERS = ("Image", *(f"AbdomenCT-1K-ImagePart{part}" for part in (1, 2, 3)))
MASK_FOLDER = "Mask"
IMAGE_ENDING, MASK_ENDING = "_0000.nii.gz", ".nii.gz"
REMEDY = "give the folder that holds Image (or AbdomenCT-1K-ImagePart1 to 3) and Mask"


def is_abdomenct1k(root: Path) -> bool:
    """Whether a folder holds one of the folders of images of AbdomenCT-1K."""
    return any(any((root / folder).glob(f"*{IMAGE_ENDING}")) for folder in IMAGE_FOLDERS)


def list_abdomenct1k(root: str | Path) -> list[dict[str, str]]:
    """List the cases of AbdomenCT-1K as downloaded.

    Args:
        root: folder that holds Image/ or AbdomenCT-1K-ImagePart1/ to 3/, all or some of them, and Mask/.

    Returns:
        one {"case", "image", "label"} a case, sorted by name, with absolute paths. The test images, which come after
        all others and have no mask, have no "label". No volume is opened.

    Raises:
        FileNotFoundError: when there is no image, no mask at all, or none for an image that is followed by one with a
            mask.
        ValueError: when an image is there twice.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; {REMEDY}.")
    images: dict[str, Path] = {}
    for path in sorted(path for folder in IMAGE_FOLDERS for path in (root / folder).glob(f"*{IMAGE_ENDING}")):
        case = path.name.removesuffix(IMAGE_ENDING)
        if case in images:
            raise ValueError(f"{path} is there a second time as {images[case]}; remove one of them.")
        images[case] = path
    if not images:
        raise FileNotFoundError(f"{root} holds no image that ends in {IMAGE_ENDING}; {REMEDY}.")
    masks = {case: root / MASK_FOLDER / f"{case}{MASK_ENDING}" for case in sorted(images)}
    labelled = [case for case, mask in masks.items() if mask.is_file()]
    if not labelled:
        raise FileNotFoundError(f"{root / MASK_FOLDER} holds no mask of the {len(images)} images; {REMEDY}.")
    missing = [case for case in masks if case not in set(labelled) and case < labelled[-1]]
    if missing:
        raise FileNotFoundError(f"{masks[missing[0]]} does not exist; download the mask, or remove {missing[0]}.")
    return [
        {"case": case, "image": str(images[case]), **({"label": str(mask)} if case in set(labelled) else {})}
        for case, mask in masks.items()
    ]


def prepare_abdomenct1k(source: str | Path, output: str | Path, progress: bool = True) -> Path:
    """Give AbdomenCT-1K the Decathlon layout, by symbolic links to the files as downloaded.

    Test images, which have no mask, are listed under "test". cases.json keeps where every link leads to. Only headers
    are read. A run that was interrupted goes on where it stopped.

    Args:
        source: see `list_abdomenct1k`.
        output: folder to write imagesTr/, labelsTr/, imagesTs/, dataset.json and cases.json to.
        progress: show a progress bar.

    Returns:
        path of dataset.json, which is written last.

    Raises:
        FileNotFoundError: see `list_abdomenct1k`.
        ValueError: when a file is damaged, a mask lies on another grid than its image, or the output was made from
            other files.
    """
    cases = {item["case"]: item for item in list_abdomenct1k(source)}
    output = Path(output).expanduser()
    check_decathlon_output(output, NAME)
    claim_cases(output, cases, "files than source holds")
    for name, item in show_progress(cases.items(), "prepare abdomenct1k", "case", enabled=progress):
        grid = read_grid(item["image"])
        if "label" in item:
            check_same_grid(grid, read_grid(item["label"]))
            link_once(item["label"], label_path(output, name))
        link_once(item["image"], image_path(output, name, "training" if "label" in item else "test"))
    test = [name for name, item in cases.items() if "label" not in item]
    return write_dataset_json(output, NAME, "AbdomenCT-1K, abdominal CT", LABELS, cases, "CT", test)


def skipped_of_abdomenct1k(source: str | Path, output: str | Path | None = None) -> dict[str, list[Path]]:
    """Volumes that `prepare_abdomenct1k` leaves out, by the reason why, see `skipped_files`."""
    return skipped_files(source, list_abdomenct1k(source), _why_skipped, output)


def _why_skipped(path: Path) -> str:
    return NO_IMAGE if path.parent.name == MASK_FOLDER else OTHER_NAME
