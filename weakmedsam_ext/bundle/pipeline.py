"""Run the stages of a bundle in order, skip what is finished, go on where a run was cut."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from monai.bundle import ConfigWorkflow

from ..data import read_json, write_json
from .errors import one_sentence

__all__ = ["Pipeline", "training_workflow"]

logger = logging.getLogger(__name__)

# settings that change no result: a moved folder or another number of processes is no reason to compute anything again
WITHOUT_EFFECT = ("bundle_root", "output_dir", "region_workers")


class Pipeline:
    """Stages that depend on each other in their order.

    A stage is finished when its record in `output_dir`/stages was made from the same config, the same settings and the
    same stages before, and all its outputs are there. A changed setting therefore runs its stage and all later ones
    again, in a fresh `output_dir` or after their outputs were deleted.

    Args:
        config_dir: folder of the stages' configs.
        bundle_root: root of the bundle.
        output_dir: what the stages write to.
        stages: in order, each {"name", "config" (file in `config_dir`), "outputs" (paths under `output_dir`), and
            optionally "settings" (of this stage alone) and "enabled", a switch or a function that is called without
            arguments when the stage's turn comes}.
        settings: of all stages; a stage gets those that its config declares at the top level. A function is called
            without arguments when its stage's turn comes, for what is not known before.

    Raises:
        ValueError: when there is no stage, or two have one name.
    """

    def __init__(
        self,
        config_dir: str | Path,
        bundle_root: str | Path,
        output_dir: str | Path,
        stages: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.config_dir = Path(config_dir)
        self.bundle_root = Path(bundle_root)
        self.output_dir = Path(output_dir)
        self.stages = [stage for stage in stages if stage.get("enabled", True)]
        self.settings = dict(settings or {})
        names = [stage["name"] for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"stages: expected at least one, each with its own name, but got {names}.")

    def run(self) -> None:
        """Run what is not finished.

        Raises:
            SystemExit: with one sentence, when a stage meets bad input.
        """
        with logging_to(self.output_dir / "logs" / "pipeline.log"):
            self._run_all()

    def _run_all(self) -> None:
        key = ""
        for number, stage in enumerate(self.stages, 1):
            title = f"[{number}/{len(self.stages)}] {stage['name']}"
            try:
                enabled = stage.get("enabled", True)
                if callable(enabled) and not enabled():
                    logger.info("%s: nothing to do", title)
                    continue
                key = self._run_once(stage, title, key)
            except Exception as error:
                sentence = one_sentence(error)
                if sentence is None:
                    raise
                sys.exit(f"error in stage {stage['name']!r}: {sentence}")

    def _run_once(self, stage: Mapping[str, Any], title: str, before: str) -> str:
        """Run a stage unless it is finished; returns its key."""
        overrides = self._overrides(stage)
        key = self._key(stage, overrides, before)
        if self._is_finished(stage, key):
            logger.info("%s: finished before", title)
            return key
        logger.info("%s: running", title)
        start = time.monotonic()
        self._run_stage(stage, overrides)
        seconds = time.monotonic() - start
        write_json({"key": key, "seconds": round(seconds, 1)}, self._record(stage))
        logger.info("%s: finished in %.0f s", title, seconds)
        return key

    def _overrides(self, stage: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a stage, those that its config declares."""
        config = read_json(self.config_dir / stage["config"], "restore the bundle")
        wanted = {**self.settings, **stage.get("settings", {})}
        unknown = set(stage.get("settings", {})) - set(config)
        if unknown:
            raise ValueError(f"stage {stage['name']!r}: {stage['config']} does not declare {sorted(unknown)}.")
        return {
            "bundle_root": str(self.bundle_root),
            "output_dir": str(self.output_dir),
            **{name: value() if callable(value) else value for name, value in wanted.items() if name in config},
        }

    def _key(self, stage: Mapping[str, Any], overrides: Mapping[str, Any], before: str) -> str:
        config = (self.config_dir / stage["config"]).read_text()
        settings = {
            name: self._without_place(value) for name, value in sorted(overrides.items()) if name not in WITHOUT_EFFECT
        }
        return hashlib.sha256(json.dumps([before, config, settings]).encode()).hexdigest()

    def _without_place(self, value: Any) -> str:
        """A path in `output_dir` as it is after the folder is moved; anything else as it is."""
        path = PurePath(str(value))
        return f"output_dir/{path.relative_to(self.output_dir)}" if path.is_relative_to(self.output_dir) else str(value)

    def _is_finished(self, stage: Mapping[str, Any], key: str) -> bool:
        record = self._record(stage)
        if not record.exists() or read_json(record, "delete it").get("key") != key:
            return False
        return all((self.output_dir / path).exists() for path in stage["outputs"])

    def _record(self, stage: Mapping[str, Any]) -> Path:
        return self.output_dir / "stages" / f"{stage['name']}.json"

    def _run_stage(self, stage: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
        workflow = training_workflow(self.config_dir, stage["config"], **overrides)
        workflow.run()
        workflow.finalize()


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Append what is logged to a file too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def training_workflow(config_dir: str | Path, *configs: str, **overrides: Any) -> ConfigWorkflow:
    """Read a config of a bundle, and overlays on it, and initialise what it describes.

    Args:
        config_dir: folder of the configs and of metadata.json.
        configs: files in it, a config first.
        overrides: values of its keys.

    Returns:
        the workflow, ready to run.
    """
    workflow = ConfigWorkflow(
        config_file=[str(Path(config_dir) / config) for config in configs],
        meta_file=str(Path(config_dir) / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **overrides,
    )
    workflow.initialize()
    return workflow
