"""Synthetic volumes in the layouts of public data sets, a file for each part of the body."""

from .abdomen import AbdomenPhantom, abdomen_phantom
from .brain import BrainPhantom, brain_phantom
from .heart import SUBTYPES, HeartPhantom, heart_phantom
from .write import write_phantoms

__all__ = [
    "SUBTYPES",
    "AbdomenPhantom",
    "BrainPhantom",
    "HeartPhantom",
    "abdomen_phantom",
    "brain_phantom",
    "heart_phantom",
    "write_phantoms",
]
