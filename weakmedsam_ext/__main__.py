"""Command line: `python -m weakmedsam_ext prepare la2018 ...`, `check`, `create`, `build`, `package`, `report`, ..."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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


def _msd_command(task: str) -> Callable[..., _Command]:
    """Command that prepares a task of the Medical Segmentation Decathlon."""

    @SetParseFns(output=str, source=str)
    def prepare(output: str, source: str | None = None, download: bool = False) -> _Command:
        """Extract a task of the Medical Segmentation Decathlon, and download it before on request.

        Args:
            output: folder to make the task's folder in, for example Task02_Heart; what is there already is kept.
            source: the task's tar file, when it is downloaded already.
            download: fetch the tar file to output first, from where MONAI keeps it.
        """
        return _Command(partial(_prepare_msd, task, output, source, download))

    return prepare


@SetParseFns(output=str, layout=str)
def phantom(
    output: str,
    layout: str = "decathlon",
    num_cases: int = 12,
    seed: int = 0,
    size: tuple[int, int, int] | None = None,
) -> _Command:
    """Write phantom volumes in the layout of a public data set.

    Args:
        output: folder to write to.
        layout: decathlon (hearts), brats2019 (brains with a lesion, four modalities) or abdomenct1k (abdominal CT).
        num_cases: number of cases.
        seed: the same seed gives the same files.
        size: voxels along each axis; 88,80,28 or 80,96,24 or 96,72,32 without, in the order of the layouts.
    """
    return _Command(partial(_phantom, output, layout, num_cases, seed, size))


@SetParseFns(dataset_dir=str, layout=str)
def check(
    dataset_dir: str,
    class_map: dict[str, int | list[int]] | None = None,
    layout: str | None = None,
    modalities: list[str] | None = None,
) -> _Command:
    """Read a whole data set and list all of its problems; exit status 1 if one of them is an error.

    Args:
        dataset_dir: the data set as downloaded.
        class_map: names and values in the masks, for example "{'liver': 1, 'tumour': [2, 3]}".
        layout: decathlon, abdomenct1k, brats2019, or folder for images of your own; found from the content without.
        modalities: images of a case of BraTS 2019, for example flair,t1.
    """
    return _Command(partial(_check, dataset_dir, class_map, layout, modalities))


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


@SetParseFns(run=str, dataset_dir=str)
def report(run: str, dataset_dir: str | None = None) -> _Command:
    """Write the report of a run, one HTML file, from what the run has left; pipelines do so at their end.

    Args:
        run: output_dir of a pipeline.
        dataset_dir: where the data are now, when they have moved since the pipeline ran.
    """
    return _Command(partial(_report, run, dataset_dir))


# also the keys of data.MSD_TASKS, whose import would load torch
MSD_TASKS = (
    "msd_brain_tumour",
    "msd_heart",
    "msd_liver",
    "msd_hippocampus",
    "msd_prostate",
    "msd_lung",
    "msd_pancreas",
    "msd_hepatic_vessel",
    "msd_spleen",
    "msd_colon",
)
COMMANDS = {
    "prepare": {
        "la2018": prepare_la2018,
        "abdomenct1k": prepare_abdomenct1k,
        "brats2019": prepare_brats2019,
        **{task: _msd_command(task) for task in MSD_TASKS},
    },
    "phantom": phantom,
    "check": check,
    "create": create,
    "build": build,
    "package": package,
    "report": report,
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
        from .bundle import user_message

        print(f"error: {user_message(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


# imported when they run: --help answers without loading torch and monai


def _prepare_la2018(source: str, output: str) -> str:
    from .data import prepare_la2018
    from .data.datasets.la2018 import skipped_of_la2018

    return _prepared(prepare_la2018(source, output), skipped_of_la2018(source, output))


def _prepare_abdomenct1k(source: str, output: str) -> str:
    from .data import prepare_abdomenct1k
    from .data.datasets.abdomenct1k import skipped_of_abdomenct1k

    return _prepared(prepare_abdomenct1k(source, output), skipped_of_abdomenct1k(source, output))


def _prepare_brats2019(source: str, output: str, modality: str) -> str:
    from .data import prepare_brats2019
    from .data.datasets.brats2019 import skipped_of_brats2019

    return _prepared(prepare_brats2019(source, output, modality), skipped_of_brats2019(source, output, modality))


def _prepare_msd(task: str, output: str, source: str | None, download: bool) -> str:
    from .data import msd_folder, prepare_msd
    from .data.datasets.summary import dataset_table

    there = msd_folder(task, output).exists()
    folder = prepare_msd(task, output, source, download)
    return f"{dataset_table(folder)}\n" + (f"{folder} is there already, nothing done" if there else f"wrote {folder}")


def _prepared(listing: Path, skipped: dict[str, list[Path]]) -> str:
    """Table of what was found, and the file that lists the cases."""
    from .data.datasets.summary import dataset_table

    return f"{dataset_table(listing.parent, skipped)}\nwrote {listing}"


def _phantom(output: str, layout: str, num_cases: int, seed: int, size: tuple[int, int, int] | None) -> str:
    from .data import write_phantoms

    return f"wrote {write_phantoms(output, layout, num_cases, seed, size)}"


def _check(dataset_dir: str, class_map: Any, layout: str | None, modalities: Any) -> str:
    from .data import check_dataset, count_problems, format_problems, list_cases

    modalities = [modalities] if isinstance(modalities, str) else modalities
    cases = list_cases(dataset_dir, layout, modalities, check_masks=False, check_images=False)
    problems = check_dataset(cases, class_map)
    if not problems:
        return f"no problem in {len(cases)} cases"
    print(format_problems(problems))
    found = f"{count_problems(problems)} in {len(cases)} cases"
    if any(problem.is_error for problem in problems):
        raise ValueError(f"{found}; mend the errors and check again.")
    return found


def _create(recipe: str, output: str, dataset_dir: str, class_map: Any, settings: dict[str, Any]) -> str:
    from .bundle import create_bundle
    from .data import list_cases
    from .data.datasets.summary import case_table, skipped_files

    bundle = create_bundle(recipe, output, dataset_dir, class_map, settings)
    cases = list_cases(dataset_dir, settings.get("layout"), settings.get("modalities"), check_masks=False)
    skipped = skipped_files(dataset_dir, cases, lambda path: "neither image nor mask of a case", output)
    return f"{case_table(cases, skipped)}\nwrote {bundle}"


def _build(bundle: str) -> str:
    from .bundle import build_bundle

    return f"wrote {len(build_bundle(bundle))} files to {bundle}"


def _package(bundle: str, output: str, model: str | None, run: str | None) -> str:
    from .bundle import package_bundle

    return f"wrote {package_bundle(bundle, output, model, run)}"


def _report(run: str, dataset_dir: str | None) -> str:
    from .report import report_run

    return f"wrote {report_run(run, dataset_dir)}"


if __name__ == "__main__":
    sys.exit(main())
