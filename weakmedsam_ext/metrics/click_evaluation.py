"""Evaluation of promptable networks: IoU with real structures after one, three and five clicks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data import show_progress, write_json
from ..networks import SINGLE_CLICK_MASKS, ClickDialogue
from ..transforms import simulate_clicks
from ..transforms.click_simulation import click_generator
from .click_answers import ClickAnswerer, NetworkAnswer, SuperpixelAnswer
from .evaluation import Evaluation, write_csv
from .measurement import DECIMALS, statistics

__all__ = [
    "CLICK_PROTOCOL",
    "ClickStep",
    "best_single_click_mask",
    "best_superpixel_levels",
    "click_dialogue",
    "click_steps",
    "evaluate_clicks",
    "evaluate_superpixels",
]

CLICK_PROTOCOL = (
    "IoU with every connected structure of the real mask after simulated clicks: the first inside the structure, the "
    "next ones inside the largest error, all far from its border (RITM). Structures are averaged within a case, then "
    "cases; n counts cases."
)
ALL = "all classes"


class ClickStep(NamedTuple):
    """State of a dialogue about Q structures after N clicks.

    Attributes:
        points: (Q, N, 2 or 3) in array index order.
        labels: (Q, N), 1 object, 0 background, -1 where there was nothing left to click.
        answer: bool (Q, *spatial).
    """

    points: Tensor
    labels: Tensor
    answer: Tensor


def click_steps(
    answerer: ClickAnswerer, item: Mapping[str, Any], num_clicks: int, generator: torch.Generator | None = None
) -> Iterator[ClickStep]:
    """Click on every structure of an item, one click after the other, see `ClickDialogue`.

    Clicks are far from borders (rule "center" of `simulate_clicks`). The first one is answered by the mask of the
    highest predicted IoU, the next ones by a single mask. Where there is nothing left to click, the answer stays.

    Args:
        answerer: a promptable network, for example.
        item: see `SliceClickItems`.
        num_clicks: number of steps.
        generator: of the clicks, on the CPU; PyTorch's own unless given.

    Yields:
        the dialogue after each click.
    """
    next_click = partial(simulate_clicks, rule="center", generator=generator)
    dialogue = ClickDialogue(answerer, answerer.start(item), item["structures"].unsqueeze(0), next_click)
    for click in range(num_clicks):
        dialogue.click()
        dialogue.ask(multimask=click == 0)
        yield ClickStep(dialogue.points[0], dialogue.labels[0], dialogue.answered[0])


def click_dialogue(
    answerer: ClickAnswerer,
    item: Mapping[str, Any],
    num_clicks: Sequence[int],
    generator: torch.Generator | None = None,
) -> dict[int, Tensor]:
    """Measure the answers to some numbers of clicks, see `click_steps`.

    Args:
        answerer: a promptable network, for example.
        item: see `SliceClickItems`.
        num_clicks: after how many clicks the answer is measured.
        generator: of the clicks, on the CPU; PyTorch's own unless given.

    Returns:
        number of clicks -> IoU of the Q structures, float64 (Q,).
    """
    steps = click_steps(answerer, item, max(num_clicks), generator)
    return {click: _iou(step.answer, item["structures"]) for click, step in enumerate(steps, 1) if click in num_clicks}


def with_click_generators(
    items: Iterable[Mapping[str, Any]], seed: int
) -> Iterator[tuple[Mapping[str, Any], torch.Generator]]:
    """Items, each with the generator of its clicks: of the seed, its case and its number within the case."""
    seen: Counter[str] = Counter()
    for item in items:
        case = str(item["case"])
        yield item, click_generator(seed, case, seen[case])
        seen[case] += 1


def evaluate_clicks(
    answerer: ClickAnswerer | nn.Module,
    items: Iterable[Mapping[str, Any]],
    output_dir: str | Path | None = None,
    num_clicks: Sequence[int] = (1, 3, 5),
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure the IoU with real structures after some clicks, see `click_dialogue`.

    Args:
        answerer: a promptable network, or another answerer.
        items: `SliceClickItems` or `VolumeClickItems`; held-out cases.
        output_dir: gets metrics.json and metrics.csv; nothing is written without.
        num_clicks: after how many clicks the answer is measured.
        seed: of the clicks; first clicks are the same for every answerer, and those of a case do not depend on the
            other cases.
        progress: show a progress bar.

    Returns:
        rows, one a case and class: "case", "class", "structures" and "iou_1", "iou_3", ...; and metrics, whose
        "summary" is "clicks" -> class -> "iou_1", ... -> mean, std, median and n over cases. With several classes,
        "all classes" is over all rows.

    Raises:
        ValueError: when no structure is left to click, or a number of clicks is below 1.
    """
    numbers = sorted(set(num_clicks))
    if not numbers or numbers[0] < 1:
        raise ValueError(f"num_clicks: expected numbers of at least 1, but got {tuple(num_clicks)}.")
    answerer = NetworkAnswer(answerer) if isinstance(answerer, nn.Module) else answerer
    found: dict[tuple[str, str], list[list[float]]] = {}
    for item, generator in with_click_generators(show_progress(items, "clicks", "image", enabled=progress), seed):
        scores = torch.stack([*click_dialogue(answerer, item, numbers, generator).values()], dim=1)
        for name, ious in zip(item["classes"], scores.tolist(), strict=True):
            found.setdefault((item["case"], name), []).append(ious)
    if not found:
        raise ValueError("items: expected at least one structure, but got none; lower min_size, or correct class_map.")
    rows = [_row(*key, ious, numbers) for key, ious in found.items()]
    settings = {"num_clicks": numbers, "seed": seed, "single_click_mask": getattr(answerer, "single_click_mask", None)}
    return _evaluation(rows, settings, output_dir)


def best_single_click_mask(
    network: nn.Module, training_items: Iterable[Mapping[str, Any]], seed: int = 0, progress: bool = True
) -> int | str | None:
    """Choose the mask of a network that answers single clicks best.

    This fixes the scale that a click means, as `best_superpixel_levels` does for the superpixels.

    Args:
        network: promptable network, see `Prompter`.
        training_items: cases that are not used for the evaluation.
        seed: see `evaluate_clicks`.
        progress: show a progress bar.

    Returns:
        one of `SINGLE_CLICK_MASKS`, see `Prompter.answer_single_click`; the first one on ties.

    Raises:
        ValueError: see `evaluate_clicks`.
    """
    answers = [NetworkAnswer(network, choice) for choice in SINGLE_CLICK_MASKS]
    found = [_mean_iou(evaluate_clicks(one, training_items, None, (1,), seed, progress), 1) for one in answers]
    return SINGLE_CLICK_MASKS[found.index(max(found))]


def best_superpixel_levels(
    training_items: Iterable[Mapping[str, Any]],
    num_clicks: Sequence[int] = (1, 3, 5),
    seed: int = 0,
    progress: bool = True,
) -> dict[int, int]:
    """Find the level of the regions at which superpixels answer clicks best, for each number of clicks.

    Args:
        training_items: with "regions"; cases that are not used for the evaluation.
        num_clicks: see `evaluate_clicks`.
        seed: see `evaluate_clicks`.
        progress: show a progress bar.

    Returns:
        number of clicks -> level.

    Raises:
        ValueError: see `evaluate_clicks`; also when the items have no regions.
    """
    first = next(iter(training_items), {})
    if "regions" not in first:
        raise ValueError("items: expected 'regions' for the superpixels; give the region store to the items.")
    levels = range(len(first["regions"]))
    runs = [evaluate_clicks(SuperpixelAnswer(n), training_items, None, num_clicks, seed, progress) for n in levels]
    means = {number: [_mean_iou(run, number) for run in runs] for number in runs[0].metrics["num_clicks"]}
    return {number: max(levels, key=values.__getitem__) for number, values in means.items()}


def evaluate_superpixels(
    items: Iterable[Mapping[str, Any]],
    levels: Mapping[int, int],
    output_dir: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Measure the superpixel baseline, each number of clicks at its own level.

    Args:
        items: see `evaluate_clicks`; with "regions".
        levels: number of clicks -> level, from `best_superpixel_levels` of training cases.
        output_dir: see `evaluate_clicks`.
        seed: see `evaluate_clicks`.
        progress: show a progress bar.

    Returns:
        as `evaluate_clicks`; "superpixel_levels" in the metrics says which level was used.

    Raises:
        ValueError: see `evaluate_clicks`.
    """
    numbers = sorted(levels)
    runs = [evaluate_clicks(SuperpixelAnswer(levels[n]), items, None, [n], seed, progress).rows for n in numbers]
    rows = [{key: value for row in same for key, value in row.items()} for same in zip(*runs, strict=True)]
    settings = {"num_clicks": numbers, "seed": seed, "superpixel_levels": {str(n): levels[n] for n in numbers}}
    return _evaluation(rows, settings, output_dir)


def _evaluation(rows: list[dict[str, Any]], settings: dict[str, Any], output_dir: str | Path | None) -> Evaluation:
    """Summarise the rows and, with a folder, write both files."""
    classes = list(dict.fromkeys(row["class"] for row in rows))
    parts = {name: [row for row in rows if row["class"] == name] for name in classes}
    if len(classes) > 1:
        parts[ALL] = rows
    keys = [_key(number) for number in settings["num_clicks"]]
    summary = {
        name: {"structures": sum(row["structures"] for row in part)}
        | {key: statistics([row[key] for row in part]) for key in keys}
        for name, part in parts.items()
    }
    cases = list(dict.fromkeys(row["case"] for row in rows))
    metrics = {"protocols": {"clicks": CLICK_PROTOCOL}, **settings, "cases": cases, "summary": {"clicks": summary}}
    if output_dir is not None:
        write_csv(rows, Path(output_dir) / "metrics.csv")
        write_json(metrics, Path(output_dir) / "metrics.json")
    return Evaluation(metrics, rows)


def _row(case: str, name: str, ious: Sequence[Sequence[float]], numbers: Sequence[int]) -> dict[str, Any]:
    means = torch.tensor(ious, dtype=torch.float64).mean(0).tolist()
    named = {_key(number): round(mean, DECIMALS) for number, mean in zip(numbers, means, strict=True)}
    return {"case": case, "class": name, "structures": len(ious), **named}


def _key(number: int) -> str:
    return f"iou_{number}"


def _mean_iou(run: Evaluation, number: int) -> float:
    values = [row[_key(number)] for row in run.rows]
    return sum(values) / len(values)


def _iou(answer: Tensor, wanted: Tensor) -> Tensor:
    both, either = (answer & wanted).flatten(1).sum(1), (answer | wanted).flatten(1).sum(1)
    return both.double() / either
