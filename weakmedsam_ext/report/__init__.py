"""The report of a run: one HTML file for readers who are no engineers."""

from .command import report_run
from .words import learnt_from_few_masks, learnt_from_images, learnt_from_slices
from .write import report_inputs, write_report

__all__ = [
    "learnt_from_few_masks",
    "learnt_from_images",
    "learnt_from_slices",
    "report_inputs",
    "report_run",
    "write_report",
]
