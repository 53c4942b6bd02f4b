"""Write the report of a run without running its pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..bundle.build import ConfigBuilder
from ..bundle.errors import root_cause
from ..bundle.recipe import load_recipe, recipe_names
from .run_record import OWN_STAGE, REPORT, run_settings

__all__ = ["report_run"]


def report_run(run: str | Path, dataset_dir: str | Path | None = None) -> Path:
    """Write the report of a run by its recipe's own stage, with the settings that the run has kept.

    Args:
        run: output_dir of a pipeline.
        dataset_dir: where the data are now; where they were when the pipeline ran unless given.

    Returns:
        the report.

    Raises:
        FileNotFoundError: when the folder is no run, or the data are not there.
        ValueError: when a file is damaged.
    """
    run = Path(run).expanduser().absolute()
    settings = run_settings(run)
    config = ConfigBuilder(load_recipe(_recipe_of(settings)), {}, {}).config(OWN_STAGE)
    known = {name: value for name, value in settings.items() if name in config}
    moved = {} if dataset_dir is None else {"dataset_dir": str(Path(dataset_dir).expanduser().absolute())}
    parser = ConfigParser(config={**config, **known, **moved, "output_dir": str(run)})
    try:
        parser.get_parsed_content("run")
    except RuntimeError as error:
        raise root_cause(error) from error
    return run / REPORT


def _recipe_of(settings: Mapping[str, Any]) -> str:
    """The recipe that has most of the settings of a run."""
    known = {name: {**load_recipe(name).runtime, **load_recipe(name).settings} for name in recipe_names()}
    return max(known, key=lambda name: len(set(known[name]) & set(settings)))
