"""Ignite handlers: writing pseudo-labels and figures."""

from .pseudo_label_figures import PseudoLabelFigures, plot_pseudo_label
from .pseudo_label_writer import PseudoLabelWriter

__all__ = ["PseudoLabelFigures", "PseudoLabelWriter", "plot_pseudo_label"]
