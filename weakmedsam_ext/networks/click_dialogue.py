"""A dialogue with a promptable network: click, ask, and click again where the answer is wrong."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from .prompter import resize_masks, select_masks

__all__ = ["Answerer", "ClickDialogue", "NextClick"]


class Answerer(Protocol):
    """Answers prompts; `Prompter` is one."""

    takes_background_clicks: bool
    takes_masks: bool

    def answer(
        self, embedding: Any, points: Tensor, point_labels: Tensor, multimask: bool, mask_logits: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Answer Q prompt sets on every image, see `Prompter.answer`."""


class NextClick(Protocol):
    """Draws the next click of every prompt set; `weakmedsam_ext.transforms.simulate_clicks` is one."""

    def __call__(self, answered: Tensor, wanted: Tensor, /, *, positive_only: bool) -> tuple[Tensor, Tensor]:
        """Compare bool masks (R, *spatial): points (R, 2 or 3) in array index order and labels (R,), see there."""


class ClickDialogue:
    """Clicks on B images, Q series on each, and the answers to them.

    Every click is drawn from the last answer and the wanted mask. The prompt holds all clicks so far and, where the
    answerer takes masks, the last logits without their gradient. An answerer without background clicks is clicked only
    on what is missing. A series whose first click finds nothing (label -1) gets no clicks.

    Args:
        answerer: a `Prompter`, or another `Answerer`.
        embedding: of the images, as the answerer wants it.
        wanted: masks that the clicks ask for, bool (B, Q, *spatial).
        next_click: draws the clicks.
        keep_finished: keep the last answer of a series that has nothing left to click. False takes the new one, so
            that training also corrects answers that become worse.
        points: clicks so far, (B, Q, N, 2 or 3) in array index order, in pixels or voxels; none unless given.
        labels: of these, (B, Q, N), 1 object, 0 background, -1 no click.
        logits: of the last answer, (B, Q, 1, *grid).
    """

    def __init__(
        self,
        answerer: Answerer,
        embedding: Any,
        wanted: Tensor,
        next_click: NextClick,
        keep_finished: bool = True,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> None:
        self.answerer = answerer
        self.embedding = embedding
        self.wanted = wanted
        self.next_click = next_click
        self.keep_finished = keep_finished
        sets, dims = wanted.shape[:2], wanted.ndim - 2
        self.points = wanted.new_zeros((*sets, 0, dims), dtype=torch.long) if points is None else points
        self.labels = wanted.new_zeros((*sets, 0), dtype=torch.long) if labels is None else labels
        self.logits = logits
        self.iou: Tensor | None = None
        self._answered: Tensor | None = None

    @property
    def answered(self) -> Tensor:
        """The last answer on the grid of the images, bool (B, Q, *spatial); nothing before the first one."""
        if self._answered is None:
            self._answered = torch.zeros_like(self.wanted)
            if self.logits is not None:
                masks = resize_masks(self.logits.flatten(0, 1), self.wanted.shape[2:])
                self._answered = (masks[:, 0] > 0).unflatten(0, self.wanted.shape[:2])
        return self._answered

    def click(self) -> bool:
        """Add the next click of every series.

        Returns:
            whether there was anything to click.
        """
        positive_only = not self.answerer.takes_background_clicks
        masks = self.answered.flatten(0, 1), self.wanted.flatten(0, 1)
        points, labels = self.next_click(*masks, positive_only=positive_only)
        points, labels = (x.unflatten(0, self.wanted.shape[:2]).unsqueeze(2) for x in (points, labels))
        if self.labels.shape[2]:
            labels = labels.where(self.labels[:, :, :1] >= 0, -1)
        self.points = torch.cat([self.points, points], dim=2)
        self.labels = torch.cat([self.labels, labels], dim=2)
        return bool((labels >= 0).any())

    def ask(self, multimask: bool = False) -> tuple[Tensor, Tensor]:
        """Ask the answerer. The dialogue goes on from the mask with the highest predicted IoU.

        Args:
            multimask: ask for several masks of an ambiguous prompt.

        Returns:
            mask logits (B, Q, M, *grid) and predicted IoU (B, Q, M), as the answerer gave them.
        """
        earlier = self.logits if self.answerer.takes_masks else None
        masks, iou = self.answerer.answer(
            self.embedding, self.points, self.labels, multimask=multimask, mask_logits=earlier
        )
        best = iou.detach().argmax(2)
        self._remember(select_masks(masks.detach(), best), select_masks(iou.detach(), best))
        return masks, iou

    def _remember(self, logits: Tensor, iou: Tensor) -> None:
        if self.keep_finished:
            clicked = self.labels[:, :, -1:] >= 0
            before = torch.zeros_like(logits) if self.logits is None else self.logits
            logits = logits.where(clicked.reshape(*clicked.shape, *(1,) * (logits.ndim - 3)), before)
            iou = iou.where(clicked, torch.zeros_like(iou) if self.iou is None else self.iou)
        self.logits, self.iou, self._answered = logits, iou, None
