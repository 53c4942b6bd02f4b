"""The report's words: what was learnt from what, and what the stages do, for a reader who is no engineer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import SliceLabels

__all__ = ["GLOSSARY", "STAGES", "learnt_from_few_masks", "learnt_from_images", "learnt_from_slices"]

Split = Mapping[str, Sequence[Mapping[str, Any]]]

STAGES = {
    "check": "check of the data",
    "slice_labels": "list of the slices that show each structure",
    "pretrain": "training of the helper network that answers clicks",
    "cluster": "groups of slices that look alike",
    "train_cam": "training of the network that says what a slice shows",
    "cam_labels": "heat maps of that network as masks",
    "pseudo_label": "masks made by the computer (pseudo-labels)",
    "train": "training of the network",
    "finetune": "training on real masks",
    "predict": "masks of the held-out cases",
    "reference_labels": "real masks for the comparison",
    "train_supervised": "training of the same network on real masks, for comparison",
    "predict_supervised": "masks of that network",
    "train_labelled_alone": "training on the labelled cases alone, for comparison",
    "predict_labelled_alone": "masks of that network",
    "train_all_masks": "training on all masks, for comparison",
    "predict_all_masks": "masks of that network",
    "evaluate": "comparison with the real masks",
}
GLOSSARY = {
    "held-out case": "a case that the network never saw while it was trained; only such cases say how well it works on "
    "new patients",
    "reference": "the outline that a person drew",
    "overlap (Dice)": "how much of two outlines is common to both: 0 is nothing, 1 is the same outline",
    "overlap (IoU)": "the common part of two outlines, divided by what is in either: 0 is nothing, 1 the same outline",
    "border distance (HD95)": "95 of 100 border points of one outline are nearer to the other one than this",
    "pseudo-label": "a mask that the computer made from the cheap labels, and that the network was then trained on",
    "median": "the case in the middle, when all are sorted",
    "loss": "what training makes small; falling means that the network still learns",
    "epoch": "one round of training over the data",
}


def learnt_from_slices(split: Split, class_map: Mapping[str, Any], labels: str | Path, from_csv: bool) -> str:
    """What a weakly supervised network was trained from, in one sentence.

    Args:
        split: cases of "train", "validation" and "test".
        class_map: class name -> value or values in the masks.
        labels: file of the slice labels, see `SliceLabels`.
        from_csv: whether a person listed the slices; otherwise the list was read off masks.
    """
    told = SliceLabels.read(labels).cases
    slices = [bool(names) for case in split["train"] for names in told.get(case["case"], ())]
    source = "a list of slices" if from_csv else "a list of slices that was read off their masks"
    return (
        f"The network learnt to outline {_names(class_map)} from {_count(len(split['train']), 'case')} without ever "
        f"seeing an outline. It was only told which slices show it ({sum(slices)} of {len(slices)}), by {source}. "
        f"{_held_out(split)}"
    )


def learnt_from_few_masks(split: Split, class_map: Mapping[str, Any], labelled: int | Sequence[str] | None) -> str:
    """What a semi-supervised network was trained from, in one sentence; see `learnt_from_slices`.

    Args:
        split: cases of "train", "validation" and "test".
        class_map: class name -> value or values in the masks.
        labelled: names or number of the cases whose masks were used; None for all that have one.
    """
    with_masks = sum("label" in case for case in split["train"])
    number = with_masks if labelled is None else labelled if isinstance(labelled, int) else len(labelled)
    return (
        f"The network learnt to outline {_names(class_map)} from the masks of {_count(number, 'case')} and from "
        f"{_count(len(split['train']) - number, 'case')} without a mask. {_held_out(split)}"
    )


def learnt_from_images(split: Split, finetune: bool, data: str = "volumes") -> str:
    """What a promptable network was trained from, in one sentence.

    Args:
        split: cases of "train", "validation" and "test".
        finetune: whether it was trained on real masks afterwards.
        data: "volumes", or "synthetic" for images that a program made up.
    """
    then = " Then it was trained on the real masks of these cases." if finetune else ""
    found = f"{_count(len(split['train']), 'case')}, without any label: from regions that the computer found in them."
    source = found if data == "volumes" else "images that a program made up, and from no real image."
    return f"The network learnt to outline what a person clicks on from {source}{then} {_held_out(split)}"


def _held_out(split: Split) -> str:
    number = sum("label" in case for case in split["test"] or split["validation"])
    if not number:
        return "No held-out case has a mask, so nobody has measured how well it works."
    kind = "" if split["test"] else "; they also watched over the training"
    return f"It is judged on {_count(number, 'held-out case')}{kind}."


def _names(class_map: Mapping[str, Any]) -> str:
    names = [f"“{name}”" for name in class_map]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
