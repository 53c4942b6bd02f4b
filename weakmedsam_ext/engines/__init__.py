"""MONAI trainers with iteration updates of their own."""

from .click_rounds import ClickRound, ClickRounds
from .promptable_trainer import PromptableTrainer

__all__ = ["ClickRound", "ClickRounds", "PromptableTrainer"]
