"""Read and write the folder layout of the Medical Segmentation Decathlon."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple, look_up_option

from ..cases import case_name
from ..io import read_json, write_json
from ..volume_formats import is_dicom_folder
from .image_folder import list_image_folder

__all__ = [
    "check_decathlon_output",
    "claim_cases",
    "decathlon_cases",
    "image_items",
    "image_path",
    "is_decathlon",
    "label_path",
    "link_once",
    "named_images",
    "require_images",
    "write_dataset_json",
]

DATASET_JSON = "dataset.json"
NUM_NAMED = 3  # missing files that an error shows


def named_images(data: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Items with "case" and "image"; a missing "case" is the file name without its ending."""
    return [{"case": item.get("case") or case_name(item["image"]), "image": item["image"]} for item in data]


def image_items(paths: str | Path | Sequence[Any]) -> list[dict[str, Any]]:
    """Items with "image" for inference; results are named after the files, of several channels after the first.

    One path may stand alone: of an image, of a DICOM folder, or of a folder whose images are meant.

    There may be none: a bundle is also loaded to be looked at, without images. `require_images` refuses to run then.

    Raises:
        ValueError: when two have one name, whose results would be one file.
    """
    paths = _listed(paths)
    names = Counter(case_name(ensure_tuple(path)[0]) for path in paths)
    repeated = sorted(name for name, count in names.items() if count > 1)
    if repeated:
        raise ValueError(
            f"datalist: {repeated[0]!r} names {names[repeated[0]]} files, whose results would overwrite each other; "
            "rename them, or segment them in separate runs."
        )
    return [{"image": str(path) if isinstance(path, (str, Path)) else list(map(str, path))} for path in paths]


def _listed(paths: Any) -> Sequence[Any]:
    """List of images from what a user gave."""
    if isinstance(paths, (str, Path)):
        path = Path(paths).expanduser()
        if path.is_dir() and not is_dicom_folder(path):
            return [item["image"] for item in list_image_folder(path)]
        return [str(path)]
    if not isinstance(paths, Sequence) or not all(
        isinstance(one, (str, Path)) and str(one) for path in paths for one in ensure_tuple(path) or (None,)
    ):
        raise ValueError(f"datalist: expected paths of images, as in \"['a.nii.gz']\", but got {paths!r}.")
    return paths


def require_images(paths: Sequence[str | Path]) -> None:
    """Check that there is an image to segment.

    Raises:
        ValueError: when there is no image.
    """
    if not paths:
        raise ValueError("datalist: no image is given or found; list files, as in --datalist \"['a.nii.gz']\".")


def image_path(root: str | Path, case: str, section: str = "training") -> Path:
    """Path of an image of the "training" or "test" section."""
    folder = {"training": "imagesTr", "test": "imagesTs"}[look_up_option(section, ("training", "test"))]
    return Path(root) / folder / f"{case}.nii.gz"


def label_path(root: str | Path, case: str) -> Path:
    """Path of a training mask."""
    return Path(root) / "labelsTr" / f"{case}.nii.gz"


def claim_cases(output: Path, cases: Mapping[str, Any], others: str) -> None:
    """Record in cases.json which cases an output folder is made from, and refuse a folder made from others.

    Args:
        output: the data set's folder.
        cases: content of cases.json.
        others: what the folder holds when it was made from something else, for the error, "cases than source holds".

    Raises:
        ValueError: when the folder was made from other cases.
    """
    claim = output / "cases.json"
    if not claim.exists():
        write_json(cases, claim)
    elif read_json(claim, "give an empty output folder") != cases:
        raise ValueError(f"output {output} was prepared from other {others}; give an empty folder.")


def link_once(source: str | Path, target: Path) -> None:
    """Link a file of another layout into this one, unless the link exists."""
    if not target.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)


def is_decathlon(root: Path) -> bool:
    """Whether a folder holds a dataset.json."""
    return (root / DATASET_JSON).is_file()


def decathlon_cases(
    dataset_dir: str | Path, section: str = "training", check_masks: bool = True, check_images: bool = True
) -> list[dict[str, str]]:
    """List the cases of a Decathlon folder, for example Task02_Heart as downloaded.

    Args:
        dataset_dir: the folder that holds dataset.json.
        section: "training" or "test". A case without "label" in dataset.json has none here either.
        check_masks: whether listed masks must exist. Who opens only some of them finds out about those.
        check_images: whether listed images must exist.

    Returns:
        one {"case", "image", "label"} a case, in the order of dataset.json, with absolute paths. No volume is opened.

    Raises:
        FileNotFoundError: when dataset.json or a file that it lists is missing.
        ValueError: when dataset.json lists no case, a case twice, or something that is no path.
    """
    root = Path(dataset_dir).expanduser().absolute()
    listing = root / DATASET_JSON
    remedy = "dataset_dir must be the extracted folder of a Decathlon task, for example Task02_Heart"
    content = read_json(listing, remedy)
    section = look_up_option(section, ("training", "test"))
    entries = content.get(section)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{listing}: expected a list of cases under {section!r}, but got {entries!r}; {remedy}.")
    if not all(isinstance(e, str) or (isinstance(e, dict) and isinstance(e.get("image"), str)) for e in entries):
        raise ValueError(f"{listing}: every entry of {section!r} must name one image file; {remedy}.")
    items = [_decathlon_item(root, listing, entry) for entry in entries]
    names = [item["case"] for item in items]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{listing}: cases listed more than once ({', '.join(repeated)}); remove the repetitions.")
    keys = [key for key, wanted in (("image", check_images), ("label", check_masks)) if wanted]
    # not pathlib's `exists`, nor MONAI's check by it: a name that is too long raises there
    missing = [item[key] for item in items for key in keys if key in item and not os.path.exists(item[key])]
    if missing:
        named = ", ".join(map(str, missing[:NUM_NAMED])) + (", ..." if len(missing) > NUM_NAMED else "")
        raise FileNotFoundError(
            f"{len(missing)} files that {listing} lists are missing ({named}); "
            "put them there, or take them out of the list."
        )
    return items


def _decathlon_item(root: Path, listing: Path, entry: str | dict[str, Any]) -> dict[str, str]:
    """Case of an entry; a label that is null or empty is none."""
    files = {"image": entry} if isinstance(entry, str) else entry
    label = files.get("label") or None
    if not isinstance(label, (str, type(None))):
        raise ValueError(f"{listing}: expected the path of one mask under 'label', but got {label!r}; correct it.")
    image = files["image"]
    if not image or "\0" in f"{image}{label}":
        raise ValueError(f"{listing}: expected the path of an image, but got {image!r}; correct it.")
    paths = {"image": image} | ({"label": label} if label else {})
    # joining leaves an absolute path as it is
    return {"case": case_name(image), **{key: os.path.normpath(root / path) for key, path in paths.items()}}


def check_decathlon_output(output: str | Path, name: str) -> None:
    """Check that an output folder does not hold another data set.

    Raises:
        ValueError: when the folder holds a dataset.json of another name.
    """
    listing = Path(output) / DATASET_JSON
    found = read_json(listing, "give another output folder").get("name") if listing.exists() else name
    if found != name:
        raise ValueError(f"output {output} already holds the data set {found!r}; give another folder for {name!r}.")


def write_dataset_json(
    root: str | Path,
    name: str,
    description: str,
    labels: Sequence[str],
    cases: Mapping[str, Any],
    modality: str = "MRI",
    test: Sequence[str] = (),
) -> Path:
    """Write dataset.json, and cases.json with what the layout has no field for.

    Args:
        root: folder that holds imagesTr/ and labelsTr/, and imagesTs/ for test cases.
        name: of the data set.
        description: one sentence.
        labels: names of the label values 0, 1, ...
        cases: anything worth keeping of every case, for example its original name.
        modality: "MRI" or "CT".
        test: those of the cases that have no mask; all others are for training.

    Returns:
        path of dataset.json.
    """
    root = Path(root)
    write_json(cases, root / "cases.json")
    training = [case for case in cases if case not in set(test)]
    content = {
        "name": name,
        "description": description,
        "tensorImageSize": "3D",
        "modality": {"0": modality},
        "labels": {str(value): label for value, label in enumerate(labels)},
        "numTraining": len(training),
        "numTest": len(test),
        "training": [
            {"image": f"./{image_path('', case).as_posix()}", "label": f"./{label_path('', case).as_posix()}"}
            for case in training
        ],
        "test": [f"./{image_path('', case, 'test').as_posix()}" for case in test],
    }
    write_json(content, root / DATASET_JSON)
    return root / DATASET_JSON
