"""Command line: `python -m weakmedsam_ext prepare la2018 ...`, `... phantom ...`, `... package ...`."""

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
    """What the user asked for. Fire only finds out what that is: it would run a command whose options it does not know
    and complain afterwards.
    """

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


@SetParseFns(bundle=str, output=str, model=str)
def package(bundle: str, output: str, model: str | None = None) -> _Command:
    """Pack a bundle into a zip file that works alone.

    Args:
        bundle: folder of the bundle.
        output: the zip file.
        model: trained weights, for example models/model.pt of a training's output.
    """
    return _Command(partial(_package, bundle, output, model))


COMMANDS = {
    "prepare": {"la2018": prepare_la2018, "abdomenct1k": prepare_abdomenct1k, "brats2019": prepare_brats2019},
    "phantom": phantom,
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


def _package(bundle: str, output: str, model: str | None) -> str:
    from .bundle import package_bundle

    return f"wrote {package_bundle(bundle, output, model)}"


if __name__ == "__main__":
    sys.exit(main())
