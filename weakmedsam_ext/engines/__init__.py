"""MONAI trainers with iteration updates of their own."""

from .click_rounds import ClickRound, ClickRounds
from .promptable_evaluator import PromptableEvaluator, click_iou
from .promptable_trainer import PromptableTrainer

__all__ = ["ClickRound", "ClickRounds", "PromptableEvaluator", "PromptableTrainer", "click_iou"]
