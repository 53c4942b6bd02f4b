"""Choose the labelled cases of a semi-supervised training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.data import partition_dataset

from .io import load_case_mask
from .reference_labels import class_numbers

__all__ = ["semi_supervised_items", "validation_items"]


def semi_supervised_items(
    cases: Sequence[Mapping[str, Any]],
    labelled: int | Sequence[str] | None,
    held_out: Sequence[str] = (),
    seed: int = 0,
    class_map: Mapping[str, int | Sequence[int]] | None = None,
    check_masks: bool = True,
    labelled_slices: int | None = None,
) -> list[dict[str, Any]]:
    """Items of a semi-supervised training: a few cases with masks, all others without.

    Masks of labelled cases are read and checked. Those of the others are neither opened nor looked for, and their paths
    are not in the items.

    Args:
        cases: training cases, items with "case", "image" and, where there is a mask, "label" (paths).
        labelled: names of the labelled cases, or how many to draw from those that have a mask; None for all of those.
            These are cases, not patients: two time points of a patient count as two, and either may be drawn. Name the
            cases where that matters.
        held_out: names of validation and test cases, none of which may be among `cases`.
        seed: of the draw; the same names and seed give the same cases, and more cases contain the fewer.
        class_map: class name -> value or values in the masks; a mask without any of them counts as empty, and each
            must be in one of the masks.
        check_masks: whether the masks of labelled cases are read and checked.
        labelled_slices: how many slices of every labelled mask count, see `LabelledSlicesd`; None for all of it.

    Returns:
        {"case", "image", "label"} of the labelled cases, with "labelled_slices" where it is given, then {"case",
        "image"} of the others, both sorted by name.

    Raises:
        FileNotFoundError: when a labelled case's image or mask is missing.
        ValueError: when there is no labelled case or too few, a case is unknown, given twice, held out too or has no
            mask, a mask is damaged, empty or on another grid than its image, or no mask holds one of the classes.
    """
    named = {str(item["case"]): item for item in cases}
    if len(named) != len(cases):
        raise ValueError(f"cases: expected each once, but got {len(cases)} items of {len(named)} cases.")
    both = sorted(set(map(str, held_out)) & set(named))
    if both:
        raise ValueError(f"held_out: {both} are training cases too; keep each case in one of the lists.")
    if labelled is None:
        labelled = max(1, sum("label" in item for item in cases))
    chosen = _draw(named, labelled, seed) if isinstance(labelled, int) else _look_up(named, labelled)
    with_masks = [{key: named[name][key] for key in ("case", "image", "label")} for name in sorted(chosen)]
    if check_masks:
        _check_masks(with_masks, class_map)
    if labelled_slices is not None:
        with_masks = [{**item, "labelled_slices": labelled_slices} for item in with_masks]
    others = [{key: named[name][key] for key in ("case", "image")} for name in sorted(set(named) - set(chosen))]
    return with_masks + others


def validation_items(cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Validation cases that have a mask; each mask is read and checked against its image's grid.

    Args:
        cases: items with "case", "image" and, where there is a mask, "label" (paths).

    Raises:
        FileNotFoundError: when an image or mask is missing.
        ValueError: when one is damaged, or they are not on one grid.
    """
    items = [dict(item) for item in cases if "label" in item]
    for item in items:
        load_case_mask(item)
    return items


def _draw(named: Mapping[str, Mapping[str, Any]], count: int, seed: int) -> list[str]:
    candidates = sorted(name for name, item in named.items() if "label" in item)
    if not 1 <= count <= len(candidates):
        raise ValueError(
            f"labelled: expected 1 to {len(candidates)} cases, as many as have masks, but got {count}; "
            "a semi-supervised training needs at least one labelled case."
        )
    return partition_dataset(candidates, num_partitions=1, shuffle=True, seed=seed)[0][:count]


def _look_up(named: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        raise ValueError(f"labelled: expected a list of at least one case name, but got {names!r}; name a case.")
    for name in names:
        if name not in named:
            raise ValueError(f"labelled: case {name!r} is not among the {len(named)} training cases; correct the name.")
        if "label" not in named[name]:
            raise ValueError(f"labelled: case {name!r} has no mask; give its mask, or name another case.")
    if len(set(names)) != len(names):
        raise ValueError(f"labelled: expected each case once, but got {list(names)}; remove the repetitions.")
    return list(names)


def _check_masks(items: Sequence[Mapping[str, Any]], class_map: Mapping[str, int | Sequence[int]] | None) -> None:
    found: set[int] = set()
    for item in items:
        mask = load_case_mask(item)
        wanted = class_numbers(mask.array, class_map) if class_map else mask.array
        if not wanted.any():
            among = f" of {dict(class_map)}" if class_map else ""
            raise ValueError(
                f"{mask.path}: the mask of a labelled case is empty{among}; draw it, or label another case."
            )
        found |= set(np.unique(wanted).tolist())
    lacking = [name for number, name in enumerate(class_map or (), 1) if number not in found]
    if lacking:
        raise ValueError(
            f"class_map: {lacking} are in none of the {len(items)} labelled masks, so they cannot be learnt; correct "
            "the values, label a case that shows them, or leave them out."
        )
