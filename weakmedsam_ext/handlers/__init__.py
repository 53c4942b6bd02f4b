"""Ignite handlers: pseudo-labels as volumes, figures, and training that survives being killed."""

from .best_weights import BestWeights
from .click_figures import plot_clicks, write_click_figures
from .engine_log import EvaluationLog, TrainingLog, loss_of, read_history
from .exponential_moving_average import ExponentialMovingAverage
from .gradient_clipping import GradientClipping
from .prediction_figures import plot_prediction, write_prediction_figures
from .pseudo_label_figures import PseudoLabelFigures, plot_pseudo_label
from .pseudo_label_writer import PseudoLabelWriter
from .pyplot import figures_possible
from .resumable_epochs import ResumableEpochs
from .step_figure import write_step_figure
from .tracking import uses_tracker
from .weights_loader import WeightsLoader

__all__ = [
    "BestWeights",
    "EvaluationLog",
    "ExponentialMovingAverage",
    "GradientClipping",
    "PseudoLabelFigures",
    "PseudoLabelWriter",
    "ResumableEpochs",
    "TrainingLog",
    "WeightsLoader",
    "figures_possible",
    "loss_of",
    "plot_clicks",
    "plot_prediction",
    "plot_pseudo_label",
    "read_history",
    "uses_tracker",
    "write_click_figures",
    "write_prediction_figures",
    "write_step_figure",
]
