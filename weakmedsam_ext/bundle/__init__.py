"""Chaining the stages of a bundle, packaging it, and errors in one sentence."""

from .errors import one_sentence, one_sentence_errors
from .package import check_bundle, package_bundle
from .pipeline import Pipeline, training_workflow

__all__ = ["Pipeline", "check_bundle", "one_sentence", "one_sentence_errors", "package_bundle", "training_workflow"]
