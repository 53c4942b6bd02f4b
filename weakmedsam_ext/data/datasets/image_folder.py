"""A folder of images of one's own: volumes, pictures or DICOM series, with or without masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..cases import case_name
from ..volume_formats import DICOM, ITK, NIFTI, PICTURES, is_dicom_folder, is_volume_file, visible_files

__all__ = ["is_image_folder", "list_image_folder"]

IMAGES = "images"
MASKS = ("labels", "masks")
KNOWN = ", ".join((*NIFTI, *ITK, *PICTURES))
# what other layouts are made of: their folders are not taken for one's own images when something is missing there
OTHERS = {"imagesTr", "imagesTs", "labelsTr", "HGG", "LGG", *(f"AbdomenCT-1K-ImagePart{part}" for part in (1, 2, 3))}
OTHER_FILES = {"dataset.json", "lgemri.nrrd", "laendo.nrrd"}


def is_image_folder(root: Path) -> bool:
    """Whether a folder holds images at any depth, and nothing of another layout."""
    if any(path.name in OTHERS | OTHER_FILES for path in root.iterdir()):
        return False
    where = _image_root(root)
    first = where if is_dicom_folder(where) else next(_images(where), None)
    return first is not None and first.name not in OTHER_FILES


def list_image_folder(root: str | Path) -> list[dict[str, str]]:
    """List a folder of images; none is opened.

    Images are NIfTI, NRRD or MetaImage volumes, PNG or JPEG pictures (volumes of one slice), and sub-folders with files
    of one DICOM series; they may lie in sub-folders. With `images/` in the folder only that is searched, and masks are
    the files of the same names in `labels/` or `masks/` beside it. Hidden files are left out.

    Args:
        root: the folder.

    Returns:
        one {"case", "image"} and, where there is a mask, "label" an image, sorted by name, with absolute paths. The
        case is the name of the file without its ending, or that of the folder of a DICOM series.

    Raises:
        FileNotFoundError: when the folder or images are missing.
        ValueError: when two images or masks have one name, a mask has no image, there are both `labels/` and `masks/`,
            or DICOM files lie in the folder itself.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; give the folder that holds the images.")
    where = _image_root(root)
    if is_dicom_folder(where):
        raise ValueError(f"{where} holds DICOM files itself; put each series into a sub-folder, which names the case.")
    images = _by_name(where)
    if not images:
        raise FileNotFoundError(f"{where} holds no image ({KNOWN}, or sub-folders with {DICOM} files); add images.")
    masks = _masks(root, where)
    lonely = [path for name, path in masks.items() if name not in images]
    if lonely:
        raise ValueError(f"{lonely[0]}: there is no image of that name in {where}; name masks like their images.")
    return [
        {"case": name, "image": str(images[name]), **({"label": str(masks[name])} if name in masks else {})}
        for name in sorted(images)
    ]


def _image_root(root: Path) -> Path:
    return root / IMAGES if (root / IMAGES).is_dir() else root


def _masks(root: Path, images: Path) -> dict[str, Path]:
    """Name -> mask; empty without folders of images and masks."""
    folders = [root / name for name in MASKS if images != root and (root / name).is_dir()]
    if len(folders) > 1:
        raise ValueError(f"{root} holds both {' and '.join(MASKS)}; keep one folder of masks.")
    return _by_name(folders[0]) if folders else {}


def _by_name(folder: Path) -> dict[str, Path]:
    """Name -> image."""
    found: dict[str, Path] = {}
    for path in _images(folder):
        name = case_name(path)
        if name in found:
            raise ValueError(
                f"{found[name]} and {path} both name the case {name!r}; rename one of them, or put images and masks "
                "into the folders images and labels."
            )
        found[name] = path
    return found


def _images(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Image files and DICOM folders at any depth, sorted; links to folders are followed, but not in circles."""
    if above and is_dicom_folder(folder):
        yield folder
        return
    yield from (path for path in visible_files(folder) if is_volume_file(path))
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith((".", "__"))  # archives from a Mac hold __MACOSX
        if path.is_dir() and not hidden and path.resolve() not in above:
            yield from _images(path, above)
