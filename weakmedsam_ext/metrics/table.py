"""Plain-text tables of several evaluations side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["format_click_table", "format_table"]

SECTIONS = {
    "volume": (
        "volume protocol, over cases",
        {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95 [mm]", "assd_mm": "ASSD [mm]"},
        "cases",
    ),
    "released": (
        "released protocol, over slices: for comparison only",
        {"dice": "Dice", "jaccard": "Jaccard", "hd95_px": "HD95 [px]", "assd_px": "ASSD [px]"},
        "slices",
    ),
}
ABSENT = "-"
GAP = "  "


def format_table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out evaluations side by side as plain text.

    A cell is "mean (standard deviation)". Distances cover only what was found, so the cases, or slices, that were
    missed (in the reference only), spurious (in the prediction only) and empty (in neither) stand below them.

    Args:
        evaluations: title of a column -> content of a metrics.json, see `evaluate_predictions`; for example
            {"CAM": ..., "after prompt affinity": ..., "segmenter": ...}.

    Returns:
        the table, with a block for each class; "-" where an evaluation has no value.

    Raises:
        ValueError: when there is no evaluation, or one holds no summary.
    """
    if not evaluations:
        raise ValueError("evaluations: expected at least one, but got none; evaluate predictions first.")
    for title, metrics in evaluations.items():
        if not isinstance(metrics.get("summary"), Mapping) or not set(SECTIONS) <= set(metrics["summary"]):
            raise ValueError(f"evaluations: {title!r} is no content of a metrics.json; evaluate the predictions again.")
    summaries = [metrics["summary"] for metrics in evaluations.values()]
    classes = dict.fromkeys(name for summary in summaries for name in summary["volume"])
    lines: list[list[str]] = []
    for name in classes:
        lines += [[]] * bool(lines) + [[name, *evaluations]]
        for protocol, (heading, metrics, unit) in SECTIONS.items():
            found = [summary[protocol].get(name, {}) for summary in summaries]
            lines += [[f"{GAP}{heading}"]]
            lines += [[f"{GAP * 2}{label}", *(_cell(f.get(key)) for f in found)] for key, label in metrics.items()]
            lines += [[f"{GAP * 2}{unit}: missed / spurious / empty", *(_counts(f.get("dice")) for f in found)]]
    return _aligned(lines)


def format_click_table(evaluations: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay out evaluations of clicks side by side as plain text.

    Args:
        evaluations: title of a column -> content of a metrics.json, see `evaluate_clicks`; for example
            {"pre-trained": ..., "superpixels": ..., "random weights": ...}.

    Returns:
        the table, with a block for each class; a cell is "mean (standard deviation)" over cases, "-" where an
        evaluation has no value.

    Raises:
        ValueError: when there is no evaluation, or one holds no clicks.
    """
    if not evaluations:
        raise ValueError("evaluations: expected at least one, but got none; evaluate clicks first.")
    for title, metrics in evaluations.items():
        if not isinstance(metrics.get("summary"), Mapping) or "clicks" not in metrics["summary"]:
            raise ValueError(f"evaluations: {title!r} is no evaluation of clicks; evaluate the clicks again.")
    summaries = [metrics["summary"]["clicks"] for metrics in evaluations.values()]
    numbers = sorted({number for metrics in evaluations.values() for number in metrics["num_clicks"]})
    lines: list[list[str]] = []
    for name in dict.fromkeys(name for summary in summaries for name in summary):
        lines += [[]] * bool(lines) + [[name, *evaluations]]
        found = [summary.get(name, {}) for summary in summaries]
        for number in numbers:
            label = f"IoU after {number} click{'s' * (number > 1)}"
            lines += [[f"{GAP}{label}", *(_cell(entry.get(f"iou_{number}")) for entry in found)]]
        lines += [[f"{GAP}structures", *(str(entry.get("structures", ABSENT)) for entry in found)]]
    return _aligned(lines)


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["mean"] is None:
        return ABSENT
    return f"{entry['mean']:.3f} ({entry['std']:.3f})"


def _counts(entry: Mapping[str, Any] | None) -> str:
    return ABSENT if entry is None else " / ".join(str(entry[f"n_{kind}"]) for kind in ("missed", "spurious", "empty"))


def _aligned(lines: list[list[str]]) -> str:
    """Names to the left, columns to the right; headings do not widen anything."""
    full = [line for line in lines if len(line) > 1]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    rows = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=False)]
        rows.append(GAP.join([line[0].ljust(widths[0]) if cells else line[0], *cells]) if line else "")
    return "\n".join(rows) + "\n"
