"""Chaining the stages of a bundle."""

from .pipeline import Pipeline

__all__ = ["Pipeline"]
