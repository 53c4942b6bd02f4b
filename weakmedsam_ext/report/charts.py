"""Plots as SVG, in the colours of the page, so that they follow its light and dark look and print sharply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from textwrap import wrap
from typing import Any

import numpy as np

from .run_record import Step

__all__ = ["curves", "ladder"]

COLUMN, LEFT, TOP, HEIGHT = 118, 34, 12, 220
LABEL = 17  # letters of a line below a column
LINE = 13
SPREAD = 0.4  # of a half column, to either side of its middle


def ladder(steps: Sequence[Step], name: str) -> str:
    """Every step's cases as points, beside each other in the order of the cases, with their mean as a line.

    Args:
        steps: in order; those on training cases have hollow points.
        name: of what is measured, for readers that cannot see the plot.
    """
    width = LEFT + COLUMN * len(steps) + 6
    parts = [_scale(width)]
    means = []
    for index, step in enumerate(steps):
        middle, scores = LEFT + COLUMN * (index + 0.5), step.case_scores()
        kind = "point" if step.held_out else "point hollow"
        sides = np.linspace(-SPREAD, SPREAD, len(scores)) if len(scores) > 1 else [0.0]
        for side, (case, score) in zip(sides, scores.items(), strict=True):
            where = f'cx="{middle + side * COLUMN / 2:.1f}" cy="{_y(score):.1f}"'
            parts.append(f'<circle class="{kind}" {where} r="4"><title>{escape(case)}: {score:.2f}</title></circle>')
        mean = float(np.mean(list(scores.values()))) if scores else 0.0
        means.append((middle, _y(mean)))
        line = f'x1="{middle - 30}" x2="{middle + 30}" y1="{_y(mean):.1f}" y2="{_y(mean):.1f}"'
        parts.append(f'<line class="mean" {line}/>')
        parts.append(f'<text class="value" x="{middle + 34}" y="{_y(mean) + 4:.1f}">{mean:.2f}</text>')
        parts.append(_label(step, middle))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in means)
    parts.insert(1, f'<polyline class="thread" points="{path}"/>')
    foot = LINE * (max(len(_label_lines(step)) for step in steps) + 1)
    size = f'viewBox="0 0 {width} {TOP + HEIGHT + foot}" style="max-width:{round(width * 1.25)}px"'
    plot = (
        f'<svg class="chart ladder" {size} role="img" aria-label="{escape(name)} of each step">{"".join(parts)}</svg>'
    )
    return f'<div class="scroll">{plot}</div>'


def _scale(width: int) -> str:
    lines = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(value)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{width - 6}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    return "".join(lines)


def _y(score: float) -> float:
    return TOP + HEIGHT * (1 - score)


def _label_lines(step: Step) -> list[str]:
    """Name of a step, and on how many cases it was scored."""
    cases = len(step.case_scores())
    where = "held-out" if step.held_out else "training"
    return [*wrap(step.title.split(" (")[0], LABEL)[:3], f"{cases} {where} case{'s' * (cases != 1)}"]


def _label(step: Step, middle: float) -> str:
    lines, text = _label_lines(step), ""
    for number, line in enumerate(lines):
        kind = "tick" if number == len(lines) - 1 else "label"
        y = TOP + HEIGHT + 20 + number * LINE
        text += f'<text class="{kind}" x="{middle}" y="{y}" text-anchor="middle">{escape(line)}</text>'
    return text


def curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], titles: Mapping[str, str]) -> str:
    """A small plot of every number that the trainings' tables hold, by epoch.

    Args:
        histories: training -> rows with "epoch", "loss" and validation metrics, see `TrainingLog`.
        titles: training -> what the reader calls it.
    """
    plots = []
    for training, rows in histories.items():
        names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("epoch", "seconds")]
        for name in names:
            points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                plots.append(_curve(titles.get(training, training), name, points))
    return f'<div class="curves">{"".join(plots)}</div>'


def _curve(training: str, name: str, points: Sequence[tuple[int, float]]) -> str:
    width, height, left, right, top, foot = 260, 150, 44, 12, 10, 22
    epochs, values = zip(*points, strict=True)
    low, high = (0.0, 1.0) if name != "loss" and 0 <= min(values) and max(values) <= 1 else (min(values), max(values))
    high = high if high > low else low + 1.0
    first, last = min(epochs), max(max(epochs), min(epochs) + 1)

    def place(epoch: float, value: float) -> str:
        x = left + (epoch - first) / (last - first) * (width - left - right)
        return f"{x:.1f},{top + (1 - (value - low) / (high - low)) * (height - top - foot):.1f}"

    path = " ".join(place(epoch, value) for epoch, value in points)
    marks = ""
    if len(points) <= 12:
        dots = (place(epoch, value).split(",") for epoch, value in points)
        marks = "".join(f'<circle class="dot" cx="{x}" cy="{y}" r="2.5"/>' for x, y in dots)
    bottom = height - foot
    axes = (
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{bottom}" y2="{bottom}"/>'
        f'<line class="grid" x1="{left}" x2="{width - right}" y1="{top}" y2="{top}"/>'
        f'<text class="tick" x="{left - 5}" y="{top + 4}" text-anchor="end">{high:.3g}</text>'
        f'<text class="tick" x="{left - 5}" y="{bottom + 4}" text-anchor="end">{low:.3g}</text>'
        f'<text class="tick" x="{left}" y="{height - 6}">epoch {first}</text>'
        f'<text class="tick" x="{width - right}" y="{height - 6}" text-anchor="end">{max(epochs)}</text>'
    )
    caption = f"{escape(training)}: {escape(_plain(name))}, at the end {values[-1]:.3g}"
    line = f'<polyline class="curve" points="{path}"/>' if len(points) > 1 else ""
    plot = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{caption}">{axes}{line}{marks}</svg>'
    )
    return f"<figure>{plot}<figcaption>{caption}</figcaption></figure>"


def _plain(name: str) -> str:
    """A metric's name in words."""
    known = {
        "val_mean_dice": "overlap (Dice) with real masks of the validation cases",
        "val_mean_dice_of_labels": "overlap (Dice) with the labels of the validation cases, pseudo-labels or masks",
        "val_region_iou_last_click": "overlap (IoU) after the last click",
        "val_region_iou_first_click": "overlap (IoU) after the first click",
    }
    return known.get(name, name.replace("_", " "))
