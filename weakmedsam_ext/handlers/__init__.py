"""Ignite handlers: pseudo-labels as volumes, figures, and training that survives being killed."""

from .best_weights import BestWeights
from .click_figures import plot_clicks, write_click_figures
from .exponential_moving_average import ExponentialMovingAverage
from .gradient_clipping import GradientClipping
from .prediction_figures import plot_prediction, write_prediction_figures
from .pseudo_label_figures import PseudoLabelFigures, plot_pseudo_label
from .pseudo_label_writer import PseudoLabelWriter
from .resumable_epochs import ResumableEpochs
from .step_figure import write_step_figure
from .weights_loader import WeightsLoader

__all__ = [
    "BestWeights",
    "ExponentialMovingAverage",
    "GradientClipping",
    "PseudoLabelFigures",
    "PseudoLabelWriter",
    "ResumableEpochs",
    "WeightsLoader",
    "plot_clicks",
    "plot_prediction",
    "plot_pseudo_label",
    "write_click_figures",
    "write_prediction_figures",
    "write_step_figure",
]
