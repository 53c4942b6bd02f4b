"""Simulated dialogues between a user and a promptable network, as one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from monai.utils import look_up_option
from torch import Tensor, nn

from ..losses import clicked_regions, mask_iou, region_numbers
from ..networks import ClickDialogue, NextClick, Prompter, select_masks
from ..transforms import simulate_clicks
from ..transforms.click_simulation import draw_below, draw_numbers, pick_true

__all__ = ["ClickRound", "ClickRounds", "Dialogues"]

FIRST_CLICKS = ("places", "regions")
NUM_SCALES = 3  # targets of a click, as many as its masks; over many batches every scale is drawn


class ClickRound(NamedTuple):
    """What a network answered in one round, and what was wanted; *grid is that of its logits.

    Attributes:
        logits: masks (B, Q, M, *grid).
        iou: predicted IoU, (B, Q, M).
        target: (B, Q, L, *grid), the part of every cell that belongs to each possible target, in 0..1.
        weight: (B, Q), 1, or 0 where the image had no place to click.
    """

    logits: Tensor
    iou: Tensor
    target: Tensor
    weight: Tensor


class Dialogues(NamedTuple):
    """All rounds of the dialogues about a batch.

    Attributes:
        rounds: one for each click; the first may be in two parts, see `ClickRounds`.
        features: of every cell before any click, (B, C, *grid), see `Prompter.cell_features`; None unless asked for.
    """

    rounds: list[ClickRound]
    features: Tensor | None


class ClickRounds(nn.Module):
    """Click on regions, look at the answers, correct them, as in SAM's training (Kirillov et al., ICCV 2023).

    Every image gets Q first clicks. A click may mean a region of any scale, and the network answers it with three
    masks; of more than three scales, three are drawn for every batch. Then one random scale of every click is wanted,
    and the mask that fits it best is corrected in a `ClickDialogue`, which the network answers with its single mask.

    SAM asks for the single mask only after several clicks. Here a share of the first clicks of every image asks for it
    too. The wanted scale is hidden from the network, so the single mask learns the consensus of the scales. Random
    numbers come from PyTorch's generator of the CPU, unless every image is given its own.

    Args:
        network: promptable network, see `Prompter`.
        num_clicks: first clicks an image, Q.
        num_rounds: clicks of a dialogue, at least 1 (no corrections).
        single_share: part of the first clicks that asks for the single mask, in 0..1, rounded to whole clicks.
        first_clicks: "places": every clickable place is equally likely, so large regions get most clicks; "regions":
            every region of a random scale is equally likely, so that small regions are learnt too.
        with_features: also give the features of every cell.
        next_click: draws the clicks that correct; `simulate_clicks` with its rule "uniform" unless given.
            Where images have their own generators, it is called with them as `generator` too.

    Raises:
        ValueError: when a setting is out of range or unknown.
    """

    def __init__(
        self,
        network: nn.Module,
        num_clicks: int = 8,
        num_rounds: int = 3,
        single_share: float = 0.25,
        first_clicks: str = "places",
        with_features: bool = False,
        next_click: NextClick = simulate_clicks,
    ) -> None:
        super().__init__()
        for name, value in (("num_clicks", num_clicks), ("num_rounds", num_rounds)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, but got {value}.")
        if not 0 <= single_share <= 1:
            raise ValueError(f"single_share: expected a value in 0..1, but got {single_share}.")
        self.prompter = Prompter(network)
        self.num_clicks = num_clicks
        self.num_rounds = num_rounds
        self.num_multiple = num_clicks - round(single_share * num_clicks)
        self.first_clicks: str = look_up_option(first_clicks, FIRST_CLICKS)
        self.with_features = with_features
        self.next_click = next_click

    def forward(self, image: Tensor, regions: Tensor, generators: Sequence[torch.Generator] | None = None) -> Dialogues:
        """Hold the dialogues.

        Args:
            image: (B, C, *spatial), intensities in 0..1.
            regions: region numbers at L scales, integers (B, L, *spatial); never clicked where any is negative.
            generators: one for each image, of the CPU; its dialogues do not depend on the rest of the batch then.

        Returns:
            the rounds and features. The first round is in two parts, clicks with M = 3 masks and min(L, 3) targets and
            clicks with M = 1 and one target, of which either may be missing; the others have all clicks, M = 1 and one
            target.

        Raises:
            ValueError: when the shapes do not fit.
        """
        if regions.ndim != image.ndim or regions.shape[2:] != image.shape[2:] or len(regions) != len(image):
            raise ValueError(
                f"regions: expected (B, L, *spatial) that fits the image {tuple(image.shape)}, but got "
                f"{tuple(regions.shape)}."
            )
        if regions.shape[1] > NUM_SCALES:
            regions = _some_scales(regions, generators)
        points, labels = self._first_clicks(regions, generators)  # (B, Q, 1, dims) and (B, Q, 1)
        weight = (labels[..., 0] == 1).float()
        embedding = self.prompter.encode(image)
        features = self.prompter.cell_features(embedding) if self.with_features else None
        answers = [
            (part, *self.prompter.answer(embedding, points[:, part], labels[:, part], multimask))
            for part, multimask in self._parts()
        ]
        targets = clicked_regions(regions, points[:, :, 0], answers[0][1].shape[3:])
        scale = draw_below(targets.shape[2], points.shape[:2], generators).to(image.device)  # (B, Q)
        target = select_masks(targets, scale)
        rounds = []
        for part, logits, iou in answers:
            meant = targets[:, part] if logits.shape[2] > 1 else target[:, part]
            rounds.append(ClickRound(logits, iou, meant, weight[:, part]))
        if self.num_rounds == 1:
            return Dialogues(rounds, features)

        wanted = _regions_of_scale(regions, points[:, :, 0], scale)
        best = torch.cat([_best_fitting(x.detach(), target[:, part]) for part, x, _ in answers], dim=1)
        # the protocol does not ask for a generator, which only evaluations give
        draw: Any = self.next_click
        next_click: NextClick = draw if generators is None else partial(draw, generator=generators)
        dialogue = ClickDialogue(self.prompter, embedding, wanted, next_click, False, points, labels, best)
        for _ in range(self.num_rounds - 1):
            dialogue.click()
            rounds.append(ClickRound(*dialogue.ask(), target, weight))
        return Dialogues(rounds, features)

    def _parts(self) -> list[tuple[slice, bool]]:
        """Which of the first clicks ask for three masks (True) and which for one."""
        parts = [(slice(0, self.num_multiple), True), (slice(self.num_multiple, self.num_clicks), False)]
        return [(part, multimask) for part, multimask in parts if part.start < part.stop]

    def _first_clicks(self, regions: Tensor, generators: Sequence[torch.Generator] | None) -> tuple[Tensor, Tensor]:
        """Points (B, Q, 1, dims) and labels (B, Q, 1), -1 where an image has no place to click."""
        clickable = (regions >= 0).all(1)
        if self.first_clicks == "regions":
            clickable = _any_regions(regions, clickable, self.num_clicks, generators).flatten(0, 1)
        else:
            clickable = clickable.repeat_interleave(self.num_clicks, dim=0)
        points, labels = simulate_clicks(torch.zeros_like(clickable), clickable, generator=generators)
        return points.unflatten(0, (-1, self.num_clicks)).unsqueeze(2), labels.view(-1, self.num_clicks, 1)


def _some_scales(regions: Tensor, generators: Sequence[torch.Generator] | None) -> Tensor:
    """`NUM_SCALES` scales of regions (B, L, *spatial): the same ones of all images, or of each by its generator."""
    each: Sequence[torch.Generator | None] = generators or [None]
    drawn = [torch.randperm(regions.shape[1], generator=one)[:NUM_SCALES] for one in each]
    scales = torch.stack(drawn).sort(1).values.to(regions.device)
    return regions[torch.arange(len(regions), device=regions.device)[:, None], scales]


def _any_regions(
    regions: Tensor, clickable: Tensor, count: int, generators: Sequence[torch.Generator] | None
) -> Tensor:
    """What is clickable of one region for each of `count` clicks, bool (B, count, *spatial).

    Regions (B, L, *spatial) of a random scale are as likely as each other where any of them is clickable (B, *spatial).
    """
    batch = len(regions)
    numbers = regions.where(clickable.unsqueeze(1), -1).flatten(2).long() + 1
    present = torch.zeros((*numbers.shape[:2], int(numbers.max()) + 1), dtype=torch.bool, device=regions.device)
    present.scatter_(2, numbers, True)
    present[..., 0] = False  # nothing to click
    scale = draw_below(regions.shape[1], (batch, count), generators).to(regions.device)
    rows = torch.arange(batch, device=regions.device)[:, None]
    draws = draw_numbers((batch * count,), generators).to(regions.device)
    number = pick_true(present[rows, scale].flatten(0, 1), draws).view(batch, count) - 1
    chosen = regions[rows, scale] == number.reshape(batch, count, *(1,) * (regions.ndim - 2))
    return chosen & clickable.unsqueeze(1)


def _regions_of_scale(regions: Tensor, points: Tensor, scale: Tensor) -> Tensor:
    """Whole region under every click (B, Q, dims) at its scale (B, Q), bool (B, Q, *spatial)."""
    numbers = region_numbers(regions, points).gather(2, scale.unsqueeze(2))[..., 0]  # (B, Q)
    batch = torch.arange(len(regions), device=regions.device)[:, None]
    return regions[batch, scale] == numbers.reshape(*numbers.shape, *(1,) * (regions.ndim - 2))


def _best_fitting(logits: Tensor, target: Tensor) -> Tensor:
    """The mask (B, Q, 1, *grid) out of (B, Q, M, *grid) that has the highest IoU with a target (B, Q, 1, *grid)."""
    return select_masks(logits, mask_iou(logits > 0, target > 0.5, logits.ndim - 3).argmax(2))
