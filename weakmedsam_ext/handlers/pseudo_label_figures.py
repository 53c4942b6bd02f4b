"""Figures of how pseudo-labels come about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..networks import CAMPseudoLabeler
from ..networks.cam_pseudo_labeler import PseudoLabelSteps, soft_to_mask
from .pseudo_label_writer import PseudoLabelWriter
from .pyplot import pyplot_to_files, save_figure

__all__ = ["PseudoLabelFigures", "plot_pseudo_label"]

COLOURS = ("tab:red", "tab:green", "tab:blue", "tab:orange", "tab:purple", "tab:cyan", "tab:pink", "tab:olive")


class _Slice(NamedTuple):
    case: str
    number: int  # of the slice
    image: Tensor  # (C, H, W)
    steps: PseudoLabelSteps


class PseudoLabelFigures:
    """Draw every n-th slice that an evaluator pseudo-labels: image, CAM, guide, refined map, pseudo-label, reference.

    A writer that refines the maps of a whole case decides what its pseudo-label is: give it, and attach these figures
    before it; they are drawn when a case is written. Without one, figures show what the network says of each slice.

    Args:
        labeler: the network that the evaluator runs.
        output_dir: gets `<case>_<slice>.png`.
        class_names: of the K classes.
        every: draw every n-th slice.
        reference: gives the mask (H, W) of a case and slice on the network's grid, for evaluation only.
        writer: of the pseudo-labels.

    Raises:
        ValueError: when `every` is below 1.
        ImportError: when matplotlib is missing.
    """

    def __init__(
        self,
        labeler: CAMPseudoLabeler,
        output_dir: str | Path,
        class_names: Sequence[str],
        every: int = 20,
        reference: Callable[[str, int], np.ndarray] | None = None,
        writer: PseudoLabelWriter | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every: expected at least 1, but got {every}.")
        pyplot_to_files()
        self.labeler = labeler
        self.output_dir = Path(output_dir)
        self.class_names = class_names
        self.every = every
        self.reference = reference
        self.writer = writer
        self._seen = 0
        self._waiting: dict[str, list[_Slice]] = {}  # until their case is written
        if writer is not None:
            writer.observers.append(self._draw_case)

    def attach(self, engine: Engine) -> None:
        """Draw while an engine runs; batch items have "image", "class_label", "case", "slice" and maybe "valid"."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def start(self, engine: Engine) -> None:
        """Count from the first slice again."""
        self._seen = 0
        self._waiting.clear()

    def __call__(self, engine: Engine) -> None:
        """Draw the slices of one iteration that are due, or keep them until their case is written."""
        for item in engine.state.batch:
            if self._seen % self.every == 0:
                shown = self._look(item)
                if self.writer is None:
                    self._draw(shown)
                else:
                    self._waiting.setdefault(shown.case, []).append(shown)
            self._seen += 1

    def _draw_case(self, case: str, maps: Tensor) -> None:
        """Draw the slices of a case with the maps that its pseudo-label was cut from."""
        assert self.writer is not None
        for shown in self._waiting.pop(case, ()):
            soft = maps[shown.number].unsqueeze(0)
            steps = shown.steps._replace(soft=soft, mask=soft_to_mask(soft, self.writer.threshold))
            self._draw(shown._replace(steps=steps))

    @torch.no_grad()
    def _look(self, item: dict[str, Any]) -> _Slice:
        device = self.labeler.kernel.device
        image, label = (torch.as_tensor(item[key]).to(device) for key in ("image", "class_label"))
        valid = torch.as_tensor(item["valid"]).to(device).unsqueeze(0) if "valid" in item else None
        steps = self.labeler.steps(image.unsqueeze(0), label.unsqueeze(0), valid)
        return _Slice(item["case"], int(item["slice"]), image, steps)

    def _draw(self, shown: _Slice) -> None:
        case, number, image, steps = shown
        reference = self.reference(case, number) if self.reference else None
        figure = plot_pseudo_label(image, steps, self.class_names, reference, f"{case}, slice {number}")
        save_figure(figure, self.output_dir / f"{case}_{number:03d}.png")


def plot_pseudo_label(
    image: Tensor,
    steps: PseudoLabelSteps,
    class_names: Sequence[str],
    reference: np.ndarray | None = None,
    title: str = "",
) -> Any:
    """Draw the steps of one slice; a row for each class that is present.

    Args:
        image: (1, H, W).
        steps: of a batch of one, see `CAMPseudoLabeler.steps`.
        class_names: of the K classes.
        reference: mask (H, W), k + 1 for class k.
        title: of the figure.

    Returns:
        a matplotlib figure; close it after use.

    Raises:
        ImportError: when matplotlib is missing.
    """
    pyplot = pyplot_to_files()
    shown = [k for k in range(len(class_names)) if steps.soft[0, k].any()] or [0]
    mask, background = steps.mask[0, 0].cpu().numpy(), image[0].cpu().numpy()
    guide = None if steps.guide is None else steps.guide[0].mean(0)
    columns = 4 if guide is None else 6
    figure, axes = pyplot.subplots(
        len(shown), columns, figsize=(2.4 * columns, 2.5 * len(shown) + 0.4), squeeze=False, layout="constrained"
    )
    for row, k in zip(axes, shown, strict=True):
        panels = [("image", background, "gray"), (f"CAM, {class_names[k]}", steps.cam[0, k], "magma")]
        if guide is not None:
            panels += [("guide", guide, "viridis"), ("after the walk", steps.refined[0, k], "magma")]
        panels.append(("soft pseudo-label", steps.soft[0, k], "magma"))
        for axis, (name, values, colours) in zip(row, panels, strict=False):
            axis.imshow(np.asarray(torch.as_tensor(values).cpu()).T, cmap=colours, origin="lower")
            axis.set_title(name, fontsize=9)
        row[-1].imshow(background.T, cmap="gray", origin="lower")
        row[-1].contour((mask == k + 1).T, [0.5], colors=COLOURS[k % len(COLOURS)], linewidths=1.2)
        if reference is not None:
            row[-1].contour((reference == k + 1).T, [0.5], colors="white", linestyles="dashed", linewidths=0.8)
        row[-1].set_title("pseudo-label" + (" (white: reference)" if reference is not None else ""), fontsize=9)
        for axis in row:
            axis.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return figure
