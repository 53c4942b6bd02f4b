"""Recipes and the bundles built from them, chaining of stages, run keys, packaging, and errors in one sentence."""

from ..data.ranks import device_of_rank
from .batch import BatchInference
from .build import build_bundle, bundle_files
from .create import create_bundle
from .errors import begin_run, user_message
from .package import check_bundle, package_bundle
from .pipeline import Pipeline, selected_weights, training_workflow
from .recipe import recipe_names
from .run_key import RunKey, differences

__all__ = [
    "BatchInference",
    "Pipeline",
    "RunKey",
    "begin_run",
    "build_bundle",
    "bundle_files",
    "check_bundle",
    "create_bundle",
    "device_of_rank",
    "differences",
    "package_bundle",
    "recipe_names",
    "selected_weights",
    "training_workflow",
    "user_message",
]
