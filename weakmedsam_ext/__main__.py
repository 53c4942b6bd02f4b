"""Command line: `python -m weakmedsam_ext prepare la2018 ...`, `create`, `build`, `package`, `phantom`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import fire
from fire.decorators import SetParseFns

__all__ = ["main"]


@dataclass(frozen=True)
class _Command:
    """A parsed command. Fire runs a command before it rejects unknown options, so it only parses here."""

    _run: Callable[[], Any]

    def __str__(self) -> str:
        return ""


@SetParseFns(source=str, output=str)
def prepare_la2018(source: str, output: str) -> _Command:
    """Turn the 2018 left atrium challenge (nrrd, or h5 as distributed with UA-MT) into the Decathlon layout.

    Args:
        source: folder with one folder a case.
        output: folder to write imagesTr, labelsTr, dataset.json and cases.json to; an interrupted run goes on there.
    """
    return _Command(partial(_prepare_la2018, source, output))


@SetParseFns(source=str, output=str)
def prepare_abdomenct1k(source: str, output: str) -> _Command:
    """Give AbdomenCT-1K the Decathlon layout, by links to the files as downloaded.

    Args:
        source: folder that holds Image (or AbdomenCT-1K-ImagePart1 to 3) and Mask.
        output: folder to write imagesTr, labelsTr, imagesTs, dataset.json and cases.json to.
    """
    return _Command(partial(_prepare_abdomenct1k, source, output))


@SetParseFns(source=str, output=str, modality=str)
def prepare_brats2019(source: str, output: str, modality: str = "flair") -> _Command:
    """Give one modality of BraTS 2019 the Decathlon layout, by links to the files as downloaded.

    Args:
        source: folder that holds HGG and LGG, for example MICCAI_BraTS_2019_Data_Training.
        output: folder to write imagesTr, labelsTr, imagesTs, dataset.json and cases.json to.
        modality: flair, t1, t1ce or t2.
    """
    return _Command(partial(_prepare_brats2019, source, output, modality))


@SetParseFns(output=str, layout=str)
def phantom(
    output: str,
    layout: str = "decathlon",
    num_cases: int = 12,
    seed: int = 0,
    size: tuple[int, int, int] = (88, 80, 28),
) -> _Command:
    """Write heart-like phantom volumes in the layout of a public data set.

    Args:
        output: folder to write to.
        layout: decathlon.
        num_cases: number of volumes.
        seed: the same seed gives the same files.
        size: voxels along each axis, for example 88,80,28.
    """
    return _Command(partial(_phantom, output, layout, num_cases, seed, size))


@SetParseFns(recipe=str, output=str, dataset_dir=str)
def create(
    recipe: str, output: str, dataset_dir: str, class_map: dict[str, int | list[int]] | list[str], **settings: Any
) -> _Command:
    """Create a bundle for data of your own.

    Args:
        recipe: weakmedsam, semisam, promptable/2d or promptable/3d.
        output: folder of the new bundle; its name is the bundle's.
        dataset_dir: a public data set as downloaded, or a folder of NIfTI, NRRD, MetaImage, PNG or JPEG files or of
            DICOM folders; with images/ and labels/ in it where there are masks.
        class_map: names and values in the masks, for example "{'liver': 1, 'tumour': [2, 3]}"; names alone, as in
            "['lesion']", where there are no masks.
        settings: other settings of the recipe, for example --spacing 2.0 or --labels_csv labels.csv.
    """
    return _Command(partial(_create, recipe, output, dataset_dir, class_map, settings))


@SetParseFns(bundle=str)
def build(bundle: str) -> _Command:
    """Write the configs of a bundle from its bundle.json.

    Args:
        bundle: folder of the bundle.
    """
    return _Command(partial(_build, bundle))


@SetParseFns(bundle=str, output=str, model=str, run=str)
def package(bundle: str, output: str, model: str | None = None, run: str | None = None) -> _Command:
    """Pack a bundle into a zip file that works alone.

    Args:
        bundle: folder of the bundle.
        output: the zip file.
        model: trained weights; with what they were made from beside them, their settings are packed too.
        run: output_dir of a pipeline, in place of model.
    """
    return _Command(partial(_package, bundle, output, model, run))


COMMANDS = {
    "prepare": {"la2018": prepare_la2018, "abdomenct1k": prepare_abdomenct1k, "brats2019": prepare_brats2019},
    "phantom": phantom,
    "create": create,
    "build": build,
    "package": package,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line; those of the process without.

    Returns:
        exit status: 0, or 1 after an error that is told in one sentence, or 130 after an interruption.
    """
    command = fire.Fire(COMMANDS, arguments, name="weakmedsam_ext", serialize=lambda result: None)
    if not isinstance(command, _Command):
        print("error: no command given; run: python -m weakmedsam_ext --help", file=sys.stderr)
        return 2
    try:
        print(command._run())
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


# imported when they run: --help answers without loading torch and monai


def _prepare_la2018(source: str, output: str) -> str:
    from .data import prepare_la2018

    return f"wrote {prepare_la2018(source, output)}"


def _prepare_abdomenct1k(source: str, output: str) -> str:
    from .data import prepare_abdomenct1k

    return f"wrote {prepare_abdomenct1k(source, output)}"


def _prepare_brats2019(source: str, output: str, modality: str) -> str:
    from .data import prepare_brats2019

    return f"wrote {prepare_brats2019(source, output, modality)}"


def _phantom(output: str, layout: str, num_cases: int, seed: int, size: tuple[int, int, int]) -> str:
    from .data import write_phantoms

    return f"wrote {write_phantoms(output, layout, num_cases, seed, size)}"


def _create(recipe: str, output: str, dataset_dir: str, class_map: Any, settings: dict[str, Any]) -> str:
    from .bundle import create_bundle

    return f"wrote {create_bundle(recipe, output, dataset_dir, class_map, settings)}"


def _build(bundle: str) -> str:
    from .bundle import build_bundle

    return f"wrote {len(build_bundle(bundle))} files to {bundle}"


def _package(bundle: str, output: str, model: str | None, run: str | None) -> str:
    from .bundle import package_bundle

    return f"wrote {package_bundle(bundle, output, model, run)}"


if __name__ == "__main__":
    sys.exit(main())
