"""Ignite handlers: pseudo-labels as volumes, figures, and training that survives being killed."""

from .gradient_clipping import GradientClipping
from .pseudo_label_figures import PseudoLabelFigures, plot_pseudo_label
from .pseudo_label_writer import PseudoLabelWriter
from .resumable_epochs import ResumableEpochs

__all__ = ["GradientClipping", "PseudoLabelFigures", "PseudoLabelWriter", "ResumableEpochs", "plot_pseudo_label"]
