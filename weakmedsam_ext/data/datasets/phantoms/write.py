"""Write phantoms as public data sets are downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from monai.utils import look_up_option

from ...io import read_json, write_json, write_nifti
from ...progress import show_progress
from ..decathlon import check_decathlon_output, image_path, label_path, write_dataset_json
from .abdomen import abdomen_phantom
from .brain import brain_phantom
from .drawing import check_size, oblique_affine, straight_affine
from .heart import deal_subtypes, heart_phantom

__all__ = ["write_phantoms"]

MARKER = "cases.json"  # says that a folder holds phantoms
HEART = "HeartPhantom"
HEART_LABELS = ("background", "left atrium")
HEART_SIZE = (88, 80, 28)
HEART_SPACING = (1.25, 1.25, 2.7)  # mm, as in Task02_Heart but for coarser slices

Volumes = Sequence[np.ndarray]


class _Layout(NamedTuple):
    """A layout whose readers go by the names of files.

    Attributes:
        name: of the data set, in the marker.
        case: pattern of a case's name.
        files: patterns of its files, in the order in which draw gives their volumes.
        draw: volumes for a size.
        size: voxels when no other size is asked for.
        spacing: voxel size in mm.
    """

    name: str
    case: str
    files: tuple[str, ...]
    draw: Callable[[np.random.Generator, Sequence[int]], Volumes]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def paths(self, output: Path, number: int) -> list[Path]:
        """Files of a case."""
        return [output / file.format(self.case.format(number)) for file in self.files]


def _brain(generator: np.random.Generator, size: Sequence[int]) -> Volumes:
    phantom = brain_phantom(generator, size)
    return (*phantom.images.values(), phantom.target)


LAYOUTS = {
    "brats2019": _Layout(
        name="BrainPhantom",
        case="BraTS19_Phantom_{:03d}_1",
        files=tuple(f"HGG/{{0}}/{{0}}_{kind}.nii.gz" for kind in ("flair", "t1", "t1ce", "t2", "seg")),
        draw=_brain,
        size=(80, 96, 24),
        spacing=(2.4, 2.4, 6.0),
    ),
    "abdomenct1k": _Layout(
        name="AbdomenPhantom",
        case="Case_{:05d}",
        files=("Image/{}_0000.nii.gz", "Mask/{}.nii.gz"),
        draw=abdomen_phantom,
        size=(96, 72, 32),
        spacing=(4.0, 4.0, 8.0),
    ),
}


def write_phantoms(
    output: str | Path,
    layout: str = "decathlon",
    num_cases: int = 12,
    seed: int = 0,
    size: Sequence[int] | None = None,
    progress: bool = True,
) -> Path:
    """Write phantoms in the layout of a public data set.

    Args:
        output: folder to write to; earlier phantoms in it are replaced.
        layout: "decathlon": hearts, as imagesTr/heart_XXX.nii.gz, labelsTr/, dataset.json, and cases.json with the
            sub-types. "brats2019": brains with a lesion, as HGG/<case>/<case>_flair.nii.gz, _t1, _t1ce, _t2 and _seg.
            "abdomenct1k": abdominal CT, as Image/Case_XXXXX_0000.nii.gz and Mask/Case_XXXXX.nii.gz.
        num_cases: number of cases.
        seed: case i is the same for the same seed and size, however many cases there are.
        size: voxels along each axis; (88, 80, 28), (80, 96, 24) or (96, 72, 32) without, in the order of the layouts.
        progress: show a progress bar.

    Returns:
        path of dataset.json, which is written last; without one in the layout, path of cases.json, which tells that
        the folder holds phantoms.

    Raises:
        ValueError: when the layout is unknown, there is no case, the size is too small, or the folder holds other data.
    """
    look_up_option(layout, ("decathlon", *LAYOUTS))
    size = size if size is not None else HEART_SIZE if layout == "decathlon" else LAYOUTS[layout].size
    check_size(size)
    for name, value, least in (("num_cases", num_cases, 1), ("seed", seed, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}: expected a whole number, at least {least}, but got {value!r}.")
    output = Path(output).expanduser()
    numbers = range(1, num_cases + 1)
    if layout == "decathlon":
        return _write_hearts(output, numbers, seed, size, progress)
    return _write_cases(output, LAYOUTS[layout], numbers, seed, size, progress)


def _write_hearts(output: Path, numbers: Sequence[int], seed: int, size: Sequence[int], progress: bool) -> Path:
    """Write hearts in Decathlon layout."""
    check_decathlon_output(output, HEART)
    found = _named_in_marker(output)
    if found:
        raise _holds_other_data(output, found, HEART)
    cases = {}
    watched = show_progress(numbers, "phantoms", "case", enabled=progress)
    for number, subtype in zip(watched, deal_subtypes(np.random.default_rng(seed)), strict=False):
        name, generator = f"heart_{number:03d}", np.random.default_rng([seed, number])
        affine, phantom = oblique_affine(generator, size, HEART_SPACING), heart_phantom(generator, size, subtype)
        write_nifti(phantom.target, affine, label_path(output, name))
        write_nifti(phantom.image, affine, image_path(output, name))
        cases[name] = {"subtype": subtype, "seed": seed}
    return write_dataset_json(output, HEART, "Synthetic heart-like volumes, no patient data", HEART_LABELS, cases)


def _write_cases(
    output: Path, layout: _Layout, numbers: Sequence[int], seed: int, size: Sequence[int], progress: bool
) -> Path:
    """Write the cases of a layout whose readers go by the names of files."""
    found = _named_in_marker(output)
    if found != layout.name and output.exists() and any(output.iterdir()):
        raise _holds_other_data(output, found, layout.name)
    _remove_earlier(output, layout)
    cases = {layout.case.format(number): {"seed": seed} for number in range(1, len(numbers) + 1)}
    # first, so that an interrupted run can be told from other data
    write_json({"name": layout.name, "cases": cases}, output / MARKER)
    affine = straight_affine(size, layout.spacing)
    for number in show_progress(numbers, "phantoms", "case", enabled=progress):
        volumes = layout.draw(np.random.default_rng([seed, number]), size)
        for volume, path in zip(volumes, layout.paths(output, number), strict=True):
            write_nifti(volume, affine, path)
    return output / MARKER


def _remove_earlier(output: Path, layout: _Layout) -> None:
    """Remove earlier phantoms: readers would list those that are not written again."""
    if not (output / MARKER).exists():
        return
    earlier = read_json(output / MARKER, "give another output folder").get("cases", ())
    for number in range(1, len(earlier) + 1):
        for path in layout.paths(output, number):
            path.unlink(missing_ok=True)
            with suppress(OSError):  # other files are in it, or it is not there
                path.parent.rmdir()


def _named_in_marker(output: Path) -> str:
    """Name of the data set in a folder's marker; "" where there is none."""
    if not (output / MARKER).exists():
        return ""
    name = read_json(output / MARKER, "give another output folder").get("name")
    return name if isinstance(name, str) else ""


def _holds_other_data(output: Path, found: str, name: str) -> ValueError:
    what = f"the data set {found!r}" if found else "other files"
    return ValueError(f"output {output} already holds {what}; give another folder for {name!r}.")
