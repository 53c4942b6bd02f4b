"""Figures of what a promptable network answers to clicks on real structures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..metrics import ClickAnswerer, ClickStep, NetworkAnswer, click_steps
from ..metrics.click_evaluation import with_click_generators
from .pyplot import outline, pyplot_to_files, save_figure

__all__ = ["plot_clicks", "write_click_figures"]

MARKERS = {1: ("tab:green", "+"), 0: ("tab:red", "x")}  # object, background
REAL, ANSWER = "white", "tab:orange"


def write_click_figures(
    answerer: ClickAnswerer | nn.Module,
    items: Iterable[Mapping[str, Any]],
    output_dir: str | Path,
    num_clicks: Sequence[int] = (1, 5),
    num_figures: int = 6,
    seed: int = 0,
) -> list[Path]:
    """Draw some items, evenly spread, with the answers to clicks on their largest structure.

    Args:
        answerer: a promptable network, see `Prompter`, or who else answers clicks.
        items: see `SliceClickItems` and `VolumeClickItems`; all are held in memory.
        output_dir: gets `<case>_<number of the item>.png`.
        num_clicks: after how many clicks the answer is shown.
        num_figures: at most so many.
        seed: of the clicks; those of a case do not depend on the other cases.

    Returns:
        the files.

    Raises:
        ImportError: when matplotlib is missing.
        ValueError: when there is no item.
    """
    pyplot_to_files()  # without matplotlib there is nothing to ask for
    output_dir, every = Path(output_dir), list(with_click_generators(items, seed))
    if not every:
        raise ValueError("items: expected at least one structure to draw, but got none; lower min_size.")
    answerer = NetworkAnswer(answerer) if isinstance(answerer, nn.Module) else answerer
    paths = []
    for number in np.unique(np.linspace(0, len(every) - 1, num_figures).round().astype(int)):
        item, generator = every[number]
        largest = int(item["structures"].flatten(1).sum(1).argmax())
        item = {**item, "structures": item["structures"][largest : largest + 1]}
        steps = list(click_steps(answerer, item, max(num_clicks), generator))
        figure = plot_clicks(item, {click: steps[click - 1] for click in num_clicks}, item["classes"][largest])
        paths.append(output_dir / f"{item['case']}_{number:03d}.png")
        save_figure(figure, paths[-1])
    return paths


def plot_clicks(item: Mapping[str, Any], steps: Mapping[int, ClickStep], title: str = "") -> Any:
    """Draw an item with one structure: the image, the real mask, and the answer after some clicks.

    Of a volume the plane along the last axis is shown in which most of the structure is; clicks in other planes are
    drawn fainter.

    Args:
        item: "case", "image" (1, *spatial) and "structures" bool (1, *spatial).
        steps: number of clicks -> dialogue about the structure.
        title: name of the structure.

    Returns:
        a matplotlib figure; close it after use.

    Raises:
        ImportError: when matplotlib is missing.
    """
    wanted = item["structures"][0]
    plane = int(wanted.sum((0, 1)).argmax()) if wanted.ndim == 3 else None
    image, mask = (_in_plane(array, plane) for array in (item["image"][0], wanted))
    figure, axes = pyplot_to_files().subplots(
        1, 2 + len(steps), figsize=(2.6 * (2 + len(steps)), 2.9), squeeze=False, layout="constrained"
    )
    panels = [("image", None), ("real mask", None)]
    panels += [(f"{click} click{'s' * (click > 1)}", step) for click, step in steps.items()]  # type: ignore[misc]
    for axis, (name, step) in zip(axes[0], panels, strict=True):
        axis.imshow(image.T, cmap="gray", origin="lower", vmin=0, vmax=1)
        axis.set_axis_off()
        if name != "image":
            outline(axis, mask.T, REAL)
        if step is not None:
            outline(axis, _in_plane(step.answer[0], plane).T, ANSWER)
            _mark(axis, step, plane)
            name += f", IoU {_iou(step.answer[0], wanted):.2f}"
        axis.set_title(name, fontsize=9)
    figure.suptitle(f"{item['case']}, {title} (white: real, orange: answer)", fontsize=10)
    return figure


def _in_plane(array: torch.Tensor, plane: int | None) -> np.ndarray:
    return (array if plane is None else array[..., plane]).numpy()


def _mark(axis: Any, step: ClickStep, plane: int | None) -> None:
    for point, label in zip(step.points[0].tolist(), step.labels[0].tolist(), strict=True):
        if label in MARKERS:
            colour, marker = MARKERS[label]
            faint = plane is not None and point[2] != plane
            axis.scatter(*point[:2], c=colour, marker=marker, s=50, alpha=0.4 if faint else 1.0)


def _iou(answer: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((answer & wanted).sum() / (answer | wanted).sum())
