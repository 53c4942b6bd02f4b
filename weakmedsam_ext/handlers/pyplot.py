"""Matplotlib for figures that go to files."""

from __future__ import annotations

from typing import Any

from monai.utils import optional_import

__all__ = ["pyplot_to_files"]


def pyplot_to_files() -> Any:
    """Give matplotlib.pyplot without a window.

    Raises:
        ImportError: when matplotlib is missing.
    """
    matplotlib, found = optional_import("matplotlib")
    if not found:
        raise ImportError('figures need matplotlib; run `pip install "weakmedsam-ext[report]"`.')
    matplotlib.use("agg")
    return optional_import("matplotlib.pyplot")[0]
