"""Trainers of the semi-supervised methods by name, for configs."""

from __future__ import annotations

from typing import Any

from monai.utils import look_up_option

from .adversarial_trainer import AdversarialTrainer
from .mean_teacher_trainer import MeanTeacherTrainer, UncertaintyAwareMeanTeacherTrainer
from .semi_supervised_engine import SemiSupervisedTrainer

__all__ = ["METHODS", "semi_supervised_trainer"]

_TEACHER = ("teacher", "consistency_weight", "noise")

# name -> trainer and the arguments that not every trainer takes
METHODS: dict[str, tuple[type[SemiSupervisedTrainer], tuple[str, ...]]] = {
    "supervised": (SemiSupervisedTrainer, ()),
    "mean_teacher": (MeanTeacherTrainer, _TEACHER),
    "uncertainty_aware": (UncertaintyAwareMeanTeacherTrainer, (*_TEACHER, "num_passes")),
    "adversarial": (AdversarialTrainer, ("discriminator", "discriminator_optimizer", "adversarial_weight")),
}


def semi_supervised_trainer(method: str, *args: Any, **kwargs: Any) -> SemiSupervisedTrainer:
    """Build the trainer of a method.

    Args:
        method: one of `METHODS`: "supervised" (with a generalist, SemiSAM without a teacher), "mean_teacher",
            "uncertainty_aware" (UA-MT), "adversarial" (DAN).
        args: of the trainer.
        kwargs: of the trainer; arguments that only other methods take are ignored.

    Raises:
        ValueError: when the method is unknown.
    """
    trainer, own = METHODS[look_up_option(method, list(METHODS))]
    others = {name for _, names in METHODS.values() for name in names} - set(own)
    return trainer(*args, **{name: value for name, value in kwargs.items() if name not in others})
