"""The parts of the page, as HTML."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..data import duration
from .charts import ladder
from .findings import MISSED, SPURIOUS, Finding, count_findings
from .run_record import StageRecord, Step
from .words import GLOSSARY, STAGES

__all__ = [
    "case_table",
    "click_figures",
    "details",
    "glossary",
    "ladder_section",
    "page",
    "runs_of_slices",
    "section",
    "settings_table",
    "stage_table",
    "tiles",
    "versions",
]

PAGE = Path(__file__).parent / "page"
METRICS = {"volume_dice": "overlap (Dice)", "volume_hd95_mm": "border distance (HD95), mm"}


def page(title: str, summary: str, sections: Sequence[str]) -> str:
    """The whole file."""
    style, script, frame = (
        (PAGE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js", "page.html")
    )
    return Template(frame).substitute(
        title=escape(title), summary=escape(summary), sections="\n".join(sections), style=style, script=script
    )


def section(heading: str, about: str, *content: str) -> str:
    """A heading, a sentence about it and what it is about."""
    text = f"<p>{escape(about)}</p>" if about else ""
    return f"<section><h2>{escape(heading)}</h2>{text}{''.join(content)}</section>"


def details(title: str, *content: str) -> str:
    """Something to unfold."""
    return f"<details><summary>{escape(title)}</summary>{''.join(content)}</details>"


def metric_name(metric: str) -> str:
    """A metric in words."""
    clicks = metric.removeprefix("iou_")
    if clicks != metric:
        return f"overlap (IoU) after {clicks} click{'s' * (clicks != '1')}"
    return METRICS[metric]


def tiles(main: Step, findings: Sequence[Finding] | None, slices: tuple[int, int]) -> str:
    """The main numbers.

    Args:
        main: the step that the run was made for.
        findings: of all its cases; None when it has no masks.
        slices: number of slices that show a structure in the reference, and of those that show none.
    """
    scores = list(main.case_scores().values())
    found = []
    if scores:
        what = f"{metric_name(main.metric)} of the median case; from {min(scores):.2f} to {max(scores):.2f}"
        found = [(f"{np.median(scores):.2f}", f"{what} in {_cases(len(scores), main.held_out)}")]
    if findings is not None:
        missed, spurious = (len([f for f in findings if f.kind == kind]) for kind in (MISSED, SPURIOUS))
        showing, empty = slices
        found.append((f"{missed} of {showing}", "slices that show a structure were missed: the network marked nothing"))
        found.append((f"{spurious} of {empty}", "slices without a structure were marked all the same"))
    items = "".join(f"<li><b>{number}</b><span>{escape(text)}</span></li>" for number, text in found)
    return f'<ul class="tiles">{items}</ul>'


def ladder_section(steps: Sequence[Step]) -> str:
    """Every step from the cheap labels to the network."""
    name = metric_name(steps[0].metric)
    about = f"A point is a case, the line is their mean, the higher the better: {name}, from 0 to 1."
    if not all(step.held_out for step in steps):
        about += " Hollow points are training cases, full ones are held-out cases; the two do not compare directly."
    told = "".join(f"<li><b>{escape(step.title)}</b>: {escape(step.about)}</li>" for step in steps)
    return section("From the labels to the network", about, ladder(steps, name), f'<ul class="steps gloss">{told}</ul>')


def case_table(main: Step, steps: Sequence[Step], findings: Sequence[Finding] | None) -> str:
    """A row for each held-out case and structure; a click on a column's head sorts.

    Args:
        main: the step that the run was made for.
        steps: all steps, of which those on the same cases have columns too.
        findings: of all cases of the main step; None when it has no masks.
    """
    cases = {row["case"] for row in main.rows}
    same = [step for step in steps if step is not main and {row["case"] for row in step.rows} == cases]
    of_step = {id(step): {(row["case"], row["class"]): row for row in step.rows} for step in [main, *same]}
    numbers = [name for name in main.rows[0] if name.startswith("iou_")] or list(METRICS)
    several = len({row["class"] for row in main.rows}) > 1
    heads = ["case", *["structure"] * several, *map(metric_name, numbers)]
    heads += [f"{metric_name(step.metric)}: {step.title.split(' (')[0]}" for step in same]
    heads += ["slices missed", "slices marked without cause"] if findings is not None else []
    counts = count_findings(findings or [])
    body = []
    for row in main.rows:
        key = (row["case"], row["class"])
        cells = [_text(row["case"]), *[_text(row["class"])] * several, *(_number(row[name]) for name in numbers)]
        cells += [_number(of_step[id(step)].get(key, {}).get(step.metric)) for step in same]
        if findings is not None:
            cells += [f"<td>{counts.get((kind, *key), 0)}</td>" for kind in (MISSED, SPURIOUS)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return _table(heads, body, sorts=True, texts=1 + several)


def _cases(number: int, held_out: bool) -> str:
    return f"{number} {'held-out' if held_out else 'training'} case{'s' * (number != 1)}"


def _text(value: str) -> str:
    return f'<td class="text">{escape(value)}</td>'


def _number(value: float | None) -> str:
    if value is None:
        return '<td data-value="">none</td>'
    return f'<td data-value="{value}">{value:.1f}</td>' if value > 1 else f'<td data-value="{value}">{value:.2f}</td>'


def _table(heads: Sequence[str], rows: Sequence[str], sorts: bool = False, texts: int = 1) -> str:
    names = [f'<button type="button">{escape(head)}</button>' if sorts else escape(head) for head in heads]
    top = "".join(f"<th{' class=text' * (k < texts)}>{name}</th>" for k, name in enumerate(names))
    kind = ' class="sorts"' if sorts else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def runs_of_slices(findings: Sequence[Finding]) -> str:
    """All findings as a table: "case, structure, 3–5, 9"."""
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for finding in findings:
        kinds = found.setdefault((finding.case, finding.structure), {MISSED: [], SPURIOUS: []})
        kinds[finding.kind].append(finding.number)
    rows = [
        f"<tr>{_text(case)}{_text(structure)}{_text(_ranges(kinds[MISSED]))}{_text(_ranges(kinds[SPURIOUS]))}</tr>"
        for (case, structure), kinds in sorted(found.items())
    ]
    return _table(["case", "structure", "slices missed", "slices marked without cause"], rows, texts=4)


def _ranges(numbers: Sequence[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)


def click_figures(folder: Path) -> str:
    """Figures of answers to clicks that the run has drawn."""
    pictures = []
    for path in sorted(folder.glob("*.png")):
        data = base64.b64encode(path.read_bytes()).decode()
        pictures.append(f'<img alt="answers to clicks, {escape(path.stem)}" src="data:image/png;base64,{data}">')
    return f'<div class="clicks">{"".join(pictures)}</div>' if pictures else ""


def stage_table(stages: Sequence[StageRecord]) -> str:
    """What every stage took; without GPU memory where no stage used any."""
    amounts = {"memory_mb": "memory at most", "gpu_memory_mb": "GPU memory at most", "disk_mb": "disk"}
    if not any(stage.usage.get("gpu_memory_mb") for stage in stages):
        del amounts["gpu_memory_mb"]
    rows = []
    for stage in stages:
        time = duration(stage.usage["seconds"]) + " since it was started again" * bool(stage.usage.get("resumed"))
        cells = "".join(f"<td>{text}</td>" for text in (time, *(_megabytes(stage.usage.get(key)) for key in amounts)))
        rows.append(f"<tr>{_text(STAGES.get(stage.name, stage.name.replace('_', ' ')))}{cells}</tr>")
    total = duration(sum(stage.usage["seconds"] for stage in stages))
    rows.append(f'<tr class="sum">{_text("together")}<td>{total}</td>{"<td></td>" * len(amounts)}</tr>')
    return _table(["stage", "time", *amounts.values()], rows)


def _megabytes(amount: float | None) -> str:
    if amount is None:
        return "not known"
    return f"{amount / 1000:.1f} GB" if amount >= 1000 else f"{amount:.0f} MB"


def versions(stages: Sequence[StageRecord]) -> str:
    """Versions and processors, each told once; none for runs of versions that did not record them."""
    found: dict[str, dict[str, None]] = {}
    for stage in stages:
        for name, version in {**stage.usage.get("versions", {}), "processor": stage.usage.get("processor")}.items():
            if version:
                found.setdefault(name, {})[version] = None
    rows = [f"<tr>{_text(name)}{_text(', '.join(texts))}</tr>" for name, texts in found.items()]
    return _table(["package", "version"], rows, texts=2) if rows else "<p>This run has not recorded its versions.</p>"


def settings_table(settings: Mapping[str, Any]) -> str:
    """All settings of the run."""
    rows = [
        f'<tr>{_text(name)}<td class="text long">{escape(json.dumps(value, ensure_ascii=False))}</td></tr>'
        for name, value in sorted(settings.items())
    ]
    return _table(["setting", "value"], rows, texts=2)


def glossary() -> str:
    """Words that the page uses."""
    return f"<dl>{''.join(f'<dt>{escape(word)}</dt><dd>{escape(text)}</dd>' for word, text in GLOSSARY.items())}</dl>"
