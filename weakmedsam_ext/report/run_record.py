"""What a run has left: scores, losses, settings, and what its stages took."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.pipeline import SETTINGS
from ..bundle.run_key import HASHES
from ..data import read_json
from ..handlers import read_history

__all__ = ["REPORT", "StageRecord", "Step", "histories", "pick_cases", "read_steps", "run_settings", "stage_records"]

REPORT = "report.html"
OWN_STAGE = "report"


@dataclass(frozen=True)
class Step:
    """One step of the ladder from cheap labels to the network, with its scores.

    Args:
        title: name of the step.
        about: what it is, in a sentence.
        rows: one a case and class: "case", "class", and numbers, None where there is none.
        cases: the items that were scored.
        masks: folder of its masks, None where it has none.
        is_main: whether this is what the run was made for.
        held_out: whether its cases were kept out of training.
    """

    title: str
    about: str
    rows: list[dict[str, Any]]
    cases: list[Mapping[str, Any]]
    masks: Path | None
    is_main: bool
    held_out: bool

    @property
    def metric(self) -> str:
        """Column of the rows that the ladder shows: Dice, or IoU after the most clicks."""
        clicks = [name for name in self.rows[0] if name.startswith("iou_")]
        return max(clicks, key=lambda name: int(name[4:])) if clicks else "volume_dice"

    def case_scores(self) -> dict[str, float]:
        """Case -> mean of the metric over its classes; cases without a value are left out."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row[self.metric] is not None:
                found.setdefault(row["case"], []).append(row[self.metric])
        return {case: float(np.mean(values)) for case, values in found.items()}


def read_steps(
    run: str | Path, steps: Mapping[str, Mapping[str, Any]], held_out: Sequence[Mapping[str, Any]]
) -> list[Step]:
    """Steps that have been scored.

    Args:
        run: output_dir of the pipeline.
        steps: title -> "scores" (folder of metrics.csv), "about" and, where the step has masks, "masks" (their folder)
            and "cases".
        held_out: items that were kept out of training; those of a step without "cases".
    """
    names, found = {item["case"] for item in held_out}, []
    for title, step in steps.items():
        path, cases = Path(step["scores"]) / "metrics.csv", list(step.get("cases", held_out))
        if not path.is_file() or not cases:
            continue
        masks = Path(step["masks"]) if "masks" in step else None
        is_main = path.parent.absolute() == Path(run).absolute()
        outside = all(item["case"] in names for item in cases)
        found.append(Step(title, step.get("about", ""), _rows(path), cases, masks, is_main, outside))
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _value(name: str, text: str) -> Any:
    if name in ("case", "class", "volume_presence"):
        return text
    return float(text) if text not in ("", "nan") else None


def pick_cases(scores: Mapping[str, float]) -> dict[str, str]:
    """Title -> the best, the median and the worst case; each case once, so one case alone is the best."""
    ranked = sorted(scores, key=lambda case: (-scores[case], case))
    chosen: dict[str, str] = {}
    places = {"best": 0, "worst": len(ranked) - 1, "median": (len(ranked) - 1) // 2}
    for title, place in places.items():
        if ranked and ranked[place] not in chosen.values():
            chosen[title] = ranked[place]
    return {title: chosen[title] for title in ("best", "median", "worst") if title in chosen}


def histories(run: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Training -> its epochs, see `TrainingLog`; trainings of controls lie in folders of their own."""
    run = Path(run)
    paths = sorted(run.glob("logs/*.csv")) + sorted(run.glob("*/logs/*.csv"))
    found = {}
    for path in paths:
        folder = path.parent.parent
        found[path.stem if folder == run else f"{path.stem} ({folder.name.replace('_', ' ')})"] = read_history(path)
    return {name: rows for name, rows in found.items() if rows}


@dataclass(frozen=True)
class StageRecord:
    """A finished stage: its name and what it took, see `StageUsage`; of old runs only the seconds are known."""

    name: str
    bundle: str
    usage: Mapping[str, Any]


def stage_paths(run: str | Path) -> list[Path]:
    """Records of the stages, without that of the report."""
    others = {Path(SETTINGS).name, Path(HASHES).name, f"{OWN_STAGE}.json"}
    return [path for path in sorted((Path(run) / "stages").glob("*.json")) if path.name not in others]


def stage_records(run: str | Path) -> list[StageRecord]:
    """Finished stages, in the order in which they ran."""
    found = []
    for path in stage_paths(run):
        record = read_json(path, "run the pipeline again")
        if record.get("finished"):
            usage = record.get("usage") or {"seconds": record.get("seconds", 0.0)}
            stage = StageRecord(path.stem, record.get("bundle", ""), usage)
            found.append(((usage.get("started", ""), path.stat().st_mtime_ns), stage))
    return [stage for _, stage in sorted(found, key=lambda pair: pair[0])]


def run_settings(run: str | Path) -> dict[str, Any]:
    """Settings of the last start of a pipeline.

    Raises:
        FileNotFoundError: when the folder is no run.
    """
    return read_json(Path(run) / SETTINGS, "give the output_dir of a pipeline that has been started")
