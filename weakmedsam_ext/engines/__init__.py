"""MONAI trainers with iteration updates of their own."""

from .click_rounds import ClickRound, ClickRounds
from .promptable_evaluator import PromptableEvaluator, click_iou
from .promptable_trainer import PromptableTrainer
from .prompted_generalist import PROMPTS, PromptedGeneralist, PseudoMask
from .weight_schedules import SigmoidRampdown, SigmoidRampup, sigmoid_rampdown, sigmoid_rampup

__all__ = [
    "PROMPTS",
    "ClickRound",
    "ClickRounds",
    "PromptableEvaluator",
    "PromptableTrainer",
    "PromptedGeneralist",
    "PseudoMask",
    "SigmoidRampdown",
    "SigmoidRampup",
    "click_iou",
    "sigmoid_rampdown",
    "sigmoid_rampup",
]
