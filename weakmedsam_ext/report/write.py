"""Write the report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data import SLICE_AXES, atomic_path, images_of, prediction_path, show_progress
from ..data.volume_formats import is_picture
from .case_images import load_case
from .charts import curves
from .findings import MISSED, SPURIOUS, Finding, find_slices
from .page import (
    case_table,
    click_figures,
    details,
    glossary,
    ladder_section,
    metric_name,
    page,
    runs_of_slices,
    section,
    settings_table,
    stage_table,
    tiles,
    versions,
)
from .run_record import REPORT, Step, histories, pick_cases, read_steps, run_settings, stage_paths, stage_records
from .viewers import thumbnail, viewer
from .words import STAGES

__all__ = ["report_inputs", "write_report"]

Cases = Sequence[Mapping[str, Any]]
NUM_THUMBNAILS = 8  # of missed and of spurious slices
PER_CASE = 2  # of them


def report_inputs(output_dir: str | Path, steps: Mapping[str, Mapping[str, Any]], held_out: Cases) -> list[Any]:
    """Everything that the report shows, for its run key; see `write_report`."""
    run = Path(output_dir)
    scores = [Path(step["scores"]) / "metrics.csv" for step in steps.values()]
    masks = [
        prediction_path(step["masks"], item)
        for step in steps.values()
        if "masks" in step
        for item in step.get("cases", held_out)
    ]
    shown = [[*images_of(item), item.get("label", "")] for item in held_out]
    tables = [*run.glob("logs/*.csv"), *run.glob("*/logs/*.csv")]
    figures = [] if masks else list(run.glob("figures/*.png"))
    return [list(map(str, (*stage_paths(run), *scores, *masks, *tables, *figures))), shown]


def write_report(
    output_dir: str | Path,
    steps: Mapping[str, Mapping[str, Any]],
    held_out: Cases,
    class_map: Mapping[str, Any],
    summary: str,
    axis: str = "axial",
    progress: bool = True,
) -> Path:
    """Write `output_dir`/report.html from what a run has left.

    Args:
        output_dir: of the pipeline.
        steps: title -> folders and words of a step, see `read_steps`. The one whose scores are in `output_dir` itself
            is what the run was made for.
        held_out: items that were kept out of training, with "label".
        class_map: class name -> value or values in the real masks.
        summary: what was learnt from what, in a sentence.
        axis: direction of the slices, "axial", "coronal" or "sagittal".
        progress: show progress.

    Returns:
        the file, which appears complete or not at all.

    Raises:
        FileNotFoundError: when the folder is no run, or a mask is missing.
        ValueError: when a file is damaged.
    """
    run = Path(output_dir)
    settings, stages, scored = run_settings(run), stage_records(run), read_steps(run, steps, held_out)
    sections = [_no_results()]
    if scored:
        main = next((step for step in scored if step.is_main), scored[-1])
        sections = _results(run, main, scored, class_map, SLICE_AXES[axis], progress)
    if tables := histories(run):
        about = "How training went. The loss is what training makes small."
        sections.append(section("Training", about, curves(tables, _training_titles(tables))))
    else:
        sections.append(section("Training", "This run has kept no table of its training."))
    sections.append(section("Time and memory", "What each stage of the run took.", stage_table(stages)))
    sections.append(section("Words", "", glossary()))
    engineer = [details("Versions", versions(stages)), details("Settings", settings_table(settings))]
    sections.append(section("For the engineer", "", *engineer))
    names = [stage.bundle for stage in stages if stage.bundle]
    title = names[-1] if names else run.absolute().name
    with atomic_path(run / REPORT) as temporary:
        temporary.write_text(page(title, summary, sections), encoding="utf-8")
    return run / REPORT


def _no_results() -> str:
    return section("Results", "No held-out case with a mask has been scored, so this report shows no results.")


def _training_titles(tables: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in tables:
        training, _, folder = name.partition(" (")
        found[name] = STAGES.get(training, training) + (f" ({folder}" if folder else "")
    return found


def _results(
    run: Path, main: Step, scored: Sequence[Step], class_map: Mapping[str, Any], axis: int, progress: bool
) -> list[str]:
    """Sections about the scored steps."""
    looked = _look_through(main, class_map, axis, progress) if main.masks is not None else None
    findings = looked.findings if looked else None
    sections = [tiles(main, findings, looked.slices if looked else (0, 0)), ladder_section(scored)]
    if looked:
        sections.append(_examples(main, scored, class_map, axis))
        sections.append(_findings_section(looked))
    elif figures := click_figures(run / "figures"):
        about = "White: the real outline; orange: the network's answer. Green and red marks are clicks."
        sections.append(section("Answers to clicks", about, figures))
    table = case_table(main, scored, findings)
    sections.append(section("Case by case", "Click on the head of a column to sort by it.", table))
    return sections


@dataclass
class _Looked:
    """What looking through all cases has found."""

    findings: list[Finding] = field(default_factory=list)
    thumbnails: list[tuple[Finding, str]] = field(default_factory=list)
    slices: tuple[int, int] = (0, 0)


def _look_through(main: Step, class_map: Mapping[str, Any], axis: int, progress: bool) -> _Looked:
    """Compare reference and prediction of every case slice by slice; one case is in memory at a time."""
    looked, showing, total = _Looked(), 0, 0
    for item in show_progress(main.cases, "report", "case", enabled=progress):
        case = load_case(item, {main.title: main.masks or ""}, class_map, axis)
        found = find_slices(case, main.title, list(class_map))
        looked.findings += found
        others = tuple(a for a in range(3) if a != axis)
        present = [(case.layers["reference"] == value).any(others) for value in range(1, len(class_map) + 1)]
        showing += int(np.sum(present))
        total += int(np.size(present))
        for kind in (MISSED, SPURIOUS):
            largest = [finding for finding in found if finding.kind == kind][:PER_CASE]
            looked.thumbnails += [(finding, thumbnail(case, finding, main.title)) for finding in largest]
    looked.slices = (showing, total - showing)
    return looked


def _findings_section(looked: _Looked) -> str:
    content = []
    titles = {
        MISSED: "Missed: the reference shows the structure, the network marked nothing",
        SPURIOUS: "Marked without cause: the network marked something, the reference shows nothing",
    }
    for kind, title in titles.items():
        found = sorted((pair for pair in looked.thumbnails if pair[0].kind == kind), key=lambda pair: -pair[0].area)
        pictures = "".join(picture for _, picture in found[:NUM_THUMBNAILS])
        content.append(f"<h3>{title}</h3>" + (f'<div class="thumbs">{pictures}</div>' if pictures else "<p>None.</p>"))
    if looked.findings:
        content.append(details("All of these slices", runs_of_slices(looked.findings)))
    about = f"Slices of all held-out cases; the {NUM_THUMBNAILS} largest of each kind, at most {PER_CASE} of a case."
    return section("Missed and marked without cause", about, *content)


def _examples(main: Step, scored: Sequence[Step], class_map: Mapping[str, Any], axis: int) -> str:
    """The best, the median and the worst held-out case, and a training case with its pseudo-labels."""
    names = {step.title: step.title.split(" (")[0] for step in scored}
    names["reference"] = "reference (a person's outline)"
    about = "" if is_picture(images_of(main.cases[0])[0]) else _how_to_scroll(axis)
    beside = [step for step in scored if step.masks is not None and step is not main and step.held_out == main.held_out]
    content = [_viewers(main, [main, *beside], pick_cases(main.case_scores()), names, class_map, axis)]
    learnt = [step for step in scored if step.masks is not None and not step.held_out]
    if learnt and main.held_out:
        source = learnt[-1]
        middle = pick_cases(source.case_scores())
        case = middle.get("median", middle.get("best"))
        content.append("<h3>What the network learnt from: a training case of medium quality</h3>")
        chosen = {"training case": case} if case else {}
        content.append(_viewers(source, list(reversed(learnt)), chosen, names, class_map, axis))
    return section("Best, median and worst case", about, *content)


def _how_to_scroll(axis: int) -> str:
    order = ("from left to right", "from back to front", "from foot to head")[axis]
    sides = " L and R are the patient's left and right side." if axis else ""
    return f"Move the slider to go through the slices, which are counted from 0, {order}.{sides}"


def _viewers(
    main: Step, steps: Sequence[Step], chosen: Mapping[str, str], names: Mapping[str, str], class_map: Any, axis: int
) -> str:
    items = {item["case"]: item for item in main.cases}
    scores, found = main.case_scores(), []
    for place, name in chosen.items():
        folders = {step.title: step.masks for step in steps[:3] if step.masks is not None}
        case = load_case(items[name], folders, class_map, axis)
        note = f"{metric_name(main.metric)}: {scores[name]:.2f}"
        found.append(viewer(case, f"{place}: {name}", note, ["reference", main.title], names))
    return f'<div class="viewers">{"".join(found)}</div>'
