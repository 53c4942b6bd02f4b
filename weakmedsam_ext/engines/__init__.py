"""MONAI trainers with iteration updates of their own."""

from .click_rounds import ClickRound, ClickRounds
from .promptable_evaluator import PromptableEvaluator, click_iou
from .promptable_trainer import PromptableTrainer
from .weight_schedules import SigmoidRampdown, SigmoidRampup, sigmoid_rampdown, sigmoid_rampup

__all__ = [
    "ClickRound",
    "ClickRounds",
    "PromptableEvaluator",
    "PromptableTrainer",
    "SigmoidRampdown",
    "SigmoidRampup",
    "click_iou",
    "sigmoid_rampdown",
    "sigmoid_rampup",
]
