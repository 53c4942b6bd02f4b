"""Metrics: per volume in millimetres, the released slice-wise protocol beside it, evaluation of files and of clicks."""

from .click_answers import ClickAnswerer, NetworkAnswer, SuperpixelAnswer
from .click_evaluation import (
    ClickStep,
    best_single_click_mask,
    best_superpixel_levels,
    click_dialogue,
    click_steps,
    evaluate_clicks,
    evaluate_superpixels,
)
from .click_items import SliceClickItems, VolumeClickItems, find_structures
from .evaluation import Evaluation, evaluate_predictions
from .measurement import PROTOCOLS
from .released_protocol import RELEASED_METRICS, ReleasedSliceMetric, compute_released_metrics
from .structures import PRESENCES, presence
from .table import format_click_table, format_table
from .volume_protocol import VOLUME_METRICS, compute_volume_metrics

__all__ = [
    "PRESENCES",
    "PROTOCOLS",
    "RELEASED_METRICS",
    "VOLUME_METRICS",
    "ClickAnswerer",
    "ClickStep",
    "Evaluation",
    "NetworkAnswer",
    "ReleasedSliceMetric",
    "SliceClickItems",
    "SuperpixelAnswer",
    "VolumeClickItems",
    "best_single_click_mask",
    "best_superpixel_levels",
    "click_dialogue",
    "click_steps",
    "compute_released_metrics",
    "compute_volume_metrics",
    "evaluate_clicks",
    "evaluate_predictions",
    "evaluate_superpixels",
    "find_structures",
    "format_click_table",
    "format_table",
    "presence",
]
