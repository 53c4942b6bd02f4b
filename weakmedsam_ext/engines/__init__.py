"""MONAI trainers with iteration updates of their own."""

from .adversarial_trainer import AdversarialTrainer
from .click_rounds import ClickRound, ClickRounds, Dialogues
from .copy_paste_trainer import CopyPasteTrainer, draw_box
from .mean_teacher_trainer import MeanTeacherTrainer, UncertaintyAwareMeanTeacherTrainer
from .promptable_evaluator import PromptableEvaluator, click_iou
from .promptable_trainer import PromptableTrainer
from .prompted_generalist import PROMPTS, PromptedGeneralist, PseudoMask, build_generalist
from .semi_supervised_engine import SemiSupervisedTrainer
from .unimatch_trainer import UniMatchTrainer, draw_cut
from .weight_schedules import SigmoidRampdown, SigmoidRampup, sigmoid_rampdown, sigmoid_rampup

__all__ = [
    "PROMPTS",
    "AdversarialTrainer",
    "ClickRound",
    "ClickRounds",
    "CopyPasteTrainer",
    "Dialogues",
    "MeanTeacherTrainer",
    "PromptableEvaluator",
    "PromptableTrainer",
    "PromptedGeneralist",
    "PseudoMask",
    "SemiSupervisedTrainer",
    "SigmoidRampdown",
    "SigmoidRampup",
    "UncertaintyAwareMeanTeacherTrainer",
    "UniMatchTrainer",
    "build_generalist",
    "click_iou",
    "draw_box",
    "draw_cut",
    "sigmoid_rampdown",
    "sigmoid_rampup",
]
