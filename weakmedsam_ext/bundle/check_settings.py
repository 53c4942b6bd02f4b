"""Check settings before anything is computed: kinds, ranges, sizes, label values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from ..data.class_map import check_class_map

__all__ = ["check_settings"]

Check = Callable[[str, Any], None]


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the values of those settings of the recipes that a rule exists for.

    Args:
        settings: name -> value. What is not known yet, a config's expression or a function, is left out, and so is
            None, which stands for a default.

    Raises:
        ValueError: for the first value that cannot be; names the setting, what was expected and what was given.
    """
    for name, value in settings.items():
        check = RULES.get(name)
        if check is not None and value is not None and not callable(value) and not _is_expression(value):
            check(name, value)
    folds, fold = settings.get("num_folds"), settings.get("fold")
    if isinstance(folds, int) and isinstance(fold, int) and fold >= folds:
        raise ValueError(f"fold: expected 0 to {folds - 1}, as num_folds is {folds}, but got {fold}.")
    _check_stride(settings.get("stride"), settings.get("roi_size"))


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _number(least: float, most: float = float("inf"), whole: bool = False, above: bool = False) -> Check:
    """Rule for a number from `least`, which `above` excludes, to `most`."""

    def check(name: str, value: Any) -> None:
        kind = "a whole number" if whole else "a number"
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
        fits = fits and (not whole or float(value).is_integer())
        if not fits or not (value > least if above else value >= least) or value > most:
            upper = "" if most == float("inf") else f" and up to {most:g}"
            start = f"above {least:g}" if above else f"from {least:g} on" if not upper else f"from {least:g}"
            raise ValueError(f"{name}: expected {kind} {start}{upper}, but got {value!r}.")

    return check


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, but got {value!r}.")


def _sizes(rule: Check, step: int = 1) -> Check:
    """Rule for one number or three, multiples of a step."""

    def check(name: str, value: Any) -> None:
        many = isinstance(value, (list, tuple))
        if many and len(value) != 3:
            raise ValueError(f"{name}: expected one number or three, one for each axis, but got {value!r}.")
        for one in value if many else [value]:
            rule(name, one)
            if step > 1 and one % step:
                raise ValueError(f"{name}: expected multiples of {step}, which the network halves, but got {value!r}.")

    return check


def _numbers(rule: Check, length: int | None = None) -> Check:
    """Rule for a list of numbers that is not empty."""

    def check(name: str, value: Any) -> None:
        if not isinstance(value, (list, tuple)) or not value or (length is not None and len(value) != length):
            many = "at least one number" if length is None else f"{length} numbers"
            raise ValueError(f"{name}: expected a list of {many}, but got {value!r}.")
        for one in value:
            rule(name, one)

    return check


def _choice(*names: str) -> Check:
    def check(name: str, value: Any) -> None:
        if value not in names:
            raise ValueError(f"{name}: expected one of {', '.join(names)}, but got {value!r}.")

    return check


def _classes(name: str, value: Any) -> None:
    check_class_map(value, name)


def _window(name: str, value: Any) -> None:
    _numbers(_number(-float("inf")), 2)(name, value)
    if not value[0] < value[1]:
        raise ValueError(f"{name}: expected two intensities, the lower one first, but got {value!r}.")


def _axes(name: str, value: Any) -> None:
    if not isinstance(value, (list, tuple)) or not all(axis in (0, 1, 2) for axis in value):
        raise ValueError(f"{name}: expected a list of axes out of 0, 1 and 2, or an empty one, but got {value!r}.")


def _check_stride(stride: Any, roi_size: Any) -> None:
    if isinstance(stride, (list, tuple)) and isinstance(roi_size, (list, tuple)):
        if any(step > size for step, size in zip(stride, roi_size, strict=True)):
            raise ValueError(f"stride: expected at most roi_size {list(roi_size)}, but got {list(stride)}.")


COUNT, NOT_NEGATIVE, POSITIVE = _number(1, whole=True), _number(0), _number(0, above=True)
WHOLE, SHARE, STEPS = _number(0, whole=True), _number(0, 1), 16  # networks halve an image four times
RULES: dict[str, Check] = {
    "class_map": _classes,
    **dict.fromkeys(("num_test", "fold", "num_workers", "seed", "ramp_length", "num_steps", "min_size"), WHOLE),
    **dict.fromkeys(
        (
            *("epochs", "train_epochs", "cam_epochs", "pretrain_epochs", "finetune_epochs", "batch_size"),
            *("val_interval", "batches_per_epoch", "slices_per_volume", "volumes_per_batch", "samples_per_volume"),
            *("slices_per_case", "num_clicks", "num_rounds", "labelled_per_batch", "channels", "num_subclasses"),
            *("cam_batch_size", "cluster_batch_size", "walk_size", "radius", "grid_size", "figures_every"),
            *("labelled_slices", "min_steps", "synthetic_steps"),
        ),
        COUNT,
    ),
    "num_folds": _number(2, whole=True),
    **dict.fromkeys(
        (
            *("learning_rate", "train_learning_rate", "cam_learning_rate", "finetune_learning_rate"),
            *("pixel_size", "beta", "seeded_beta", "feature_reach", "background_weight"),
        ),
        POSITIVE,
    ),
    **dict.fromkeys(
        (
            *("weight_decay", "cam_weight_decay", "consistency_weight", "generalist_weight", "noise", "feature_weight"),
            "pseudo_weight",
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        (
            *("momentum", "ema_decay", "average_decay", "pseudo_start", "confidence"),
            *("cam_threshold", "pool_fraction", "seed_margin"),
        ),
        SHARE,
    ),
    "flip_axes": _axes,
    "spacing": _sizes(POSITIVE),
    "stride": _sizes(COUNT),
    "roi_size": _sizes(COUNT, STEPS),
    "img_size": _number(STEPS, whole=True),
    "scored_clicks": _numbers(COUNT),
    "depths": _numbers(POSITIVE),
    "smoothings": _numbers(NOT_NEGATIVE),
    "cam_scales": _numbers(POSITIVE),
    "intensity_window": _window,
    "axis": _choice("axial", "coronal", "sagittal"),
    "select": _choice("last", "best"),
    "data": _choice("volumes", "synthetic"),
    **dict.fromkeys(
        (
            *("check", "controls", "supervised", "pretrain", "finetune", "use_affinity", "seeded_walk", "amp"),
            *("shipped_weights", "foreground_percentiles", "head_bias", "cam_flip", "weights_every_epoch"),
        ),
        _switch,
    ),
}
