"""Metrics: per volume in millimetres, the released slice-wise protocol beside it, and the evaluation of files."""

from .evaluation import Evaluation, evaluate_predictions
from .measurement import PROTOCOLS
from .released_protocol import RELEASED_METRICS, ReleasedSliceMetric, compute_released_metrics
from .structures import PRESENCES, presence
from .table import format_table
from .volume_protocol import VOLUME_METRICS, compute_volume_metrics

__all__ = [
    "PRESENCES",
    "PROTOCOLS",
    "RELEASED_METRICS",
    "VOLUME_METRICS",
    "Evaluation",
    "ReleasedSliceMetric",
    "compute_released_metrics",
    "compute_volume_metrics",
    "evaluate_predictions",
    "format_table",
    "presence",
]
