"""Run the stages of a bundle in order, skip what is finished, go on where a run was cut."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import MONAIEnvVars, look_up_option

from ..data import duration, read_json, set_aside, write_json
from .check_settings import check_settings
from .command_line import check_overrides, hash_of_configs
from .errors import LOG, log_traceback, user_message
from .run_key import RunKey, plain
from .usage import StageUsage

__all__ = ["Pipeline", "selected_weights", "training_workflow"]

SETTINGS = "stages/settings.json"  # those of the last run, for packaging
logger = logging.getLogger(__name__)


class Pipeline:
    """Stages that depend on each other in their order.

    Every stage's config has a `RunKey` under the id "run_key". A stage is finished when its record in
    `output_dir`/stages has the same key and all its outputs are there. A stage whose key changed says why, runs again
    and replaces what it wrote: earlier weights are kept as `*.previous.pt`, other outputs in stages/replaced. As keys
    hold the content of the inputs, later stages run again when, and only when, what they read is different.

    Args:
        config_dir: folder of the stages' configs, in the bundle.
        output_dir: what the stages write to.
        stages: in order, each {"name", "config" (names of files in `config_dir`, a config first, without ".json"),
            "outputs" (paths under `output_dir`), and optionally "clears" (further paths that are out of date when the
            stage runs again), "settings" (of this stage alone) and "enabled", a switch or a function that is called
            without arguments when the stage's turn comes}.
        settings: of all stages, kept in stages/settings.json. A stage gets those that its config declares at the top
            level. A function is called without arguments when its stage's turn comes, for what is not known before.

    Raises:
        ValueError: when there is no stage, or two have one name.
    """

    def __init__(
        self,
        config_dir: str | Path,
        output_dir: str | Path,
        stages: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.config_dir = Path(config_dir)
        self.output_dir = Path(output_dir)
        self.stages = [stage for stage in stages if stage.get("enabled", True)]
        self.settings = dict(settings or {})
        names = [stage["name"] for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"stages: expected at least one, each with its own name, but got {names}.")

    def run(self) -> None:
        """Run what is not finished.

        Raises:
            SystemExit: with one sentence, when a stage meets bad input; with MONAI_DEBUG=1 the error itself is raised.
        """
        check_settings(self.settings)
        with logging_to(self.output_dir / "logs" / "pipeline.log"):
            self._write_settings()
            self._run_all()

    def _write_settings(self) -> None:
        path, settings = self.output_dir / SETTINGS, {name: plain(value) for name, value in self.settings.items()}
        if _record(path) != settings:
            write_json(settings, path)

    def _run_all(self) -> None:
        for number, stage in enumerate(self.stages, 1):
            title = f"[{number}/{len(self.stages)}] {stage['name']}"
            try:
                enabled = stage.get("enabled", True)
                if callable(enabled) and not enabled():
                    logger.info("%s: nothing to do", title)
                    continue
                self._run_once(stage, title)
            except Exception as error:
                log_traceback(error, self.output_dir / LOG)
                sentence = user_message(error)
                if sentence is None or MONAIEnvVars.debug():
                    raise
                sys.exit(f"error in stage {stage['name']!r}: {sentence}")

    def _run_once(self, stage: Mapping[str, Any], title: str) -> None:
        """Run a stage unless it is finished."""
        workflow = self._workflow(stage)
        key: RunKey = workflow.parser.get_parsed_content("run_key")
        path = self.output_dir / "stages" / f"{stage['name']}.json"
        before = _record(path)
        outputs = [self.output_dir / name for name in stage["outputs"]]
        same = before.get("key") == key.digest
        if same and before.get("finished") and all(output.exists() for output in outputs):
            logger.info("%s: finished before", title)
            return
        reason = "" if same or not before else f" again: {key.changes(before.get('record', {}))}"
        logger.info("%s: running%s", title, reason)
        replaced = self.output_dir / "stages" / "replaced" / stage["name"]
        if before and not same:
            self._set_aside([*outputs, *(self.output_dir / name for name in stage.get("clears", ()))], replaced)
        if estimate := _last_time(before):
            logger.info("%s: %s", title, estimate)
        record = {"key": key.digest, "record": key.record}
        # the seconds of a training that goes on are those since its last start
        resumed = {"resumed": True} if same and not before.get("finished") else {}
        write_json({"finished": False, "usage": before.get("usage"), **record}, path)
        usage = StageUsage(self.output_dir)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        taken = {**usage.record(), **resumed}
        write_json({"finished": True, "bundle": self._bundle_name(), "usage": taken, **record}, path)
        logger.info("%s: finished in %s", title, _taken(taken))

    def _bundle_name(self) -> str:
        """Name in the bundle's metadata, or that of its folder."""
        metadata = _record(self.config_dir / "metadata.json")
        return str(metadata.get("name") or self.config_dir.absolute().parent.name)

    def _set_aside(self, outputs: Sequence[Path], replaced: Path) -> None:
        """Move what a stage wrote out of its way, where it stays until the next time."""
        shutil.rmtree(replaced, ignore_errors=True)
        for output in outputs:
            if output.suffix == ".pt":
                set_aside(output)
            elif output.exists():
                target = replaced / output.relative_to(self.output_dir)
                target.parent.mkdir(parents=True, exist_ok=True)
                output.replace(target)

    def _workflow(self, stage: Mapping[str, Any]) -> ConfigWorkflow:
        """A stage with its settings, parsed but not initialised."""
        files = [str(self.config_dir / f"{name}.json") for name in stage["config"]]
        config = ConfigParser.load_config_files(files)
        own = stage.get("settings", {})
        check_overrides(own, config, f"stage {stage['name']!r}: {' and '.join(stage['config'])}.json")
        overrides = {
            "bundle_root": str(self.config_dir.parent),
            "output_dir": str(self.output_dir),
            "weights_every_epoch": False,  # a pipeline's weights appear when their stage is finished
            **self.settings,
            **own,
        }
        return _workflow(
            self.config_dir,
            files,
            {name: value() if callable(value) else value for name, value in overrides.items() if name in config},
        )


def selected_weights(select: str, split: Mapping[str, Sequence[Any]]) -> str:
    """File of the weights to predict with: the "last" ones in model.pt, or in best.pt those that validated "best".

    Args:
        select: one of both.
        split: cases of "train", "validation" and "test".

    Raises:
        ValueError: for another choice, and for "best" without test cases or without validation cases: the cases that
            weights are chosen on must not score them.
    """
    name = {"last": "model.pt", "best": "best.pt"}[look_up_option(select, ("last", "best"))]
    if select == "best" and not split["test"]:
        raise ValueError(
            "select: 'best' would choose the weights on the cases that score them; keep others for scoring by num_test."
        )
    if select == "best" and not any("label" in item for item in split["validation"]):
        raise ValueError("select: 'best' needs a validation case with a mask; add one, or select 'last'.")
    return name


def _record(path: Path) -> dict[str, Any]:
    """Record of a stage; one that cannot be read stands for a run of which nothing is known."""
    try:
        return read_json(path, "delete it") if path.exists() else {}
    except ValueError:
        return {"record": {}}


def _last_time(before: Mapping[str, Any]) -> str:
    """What a stage took when it ran before, as a guess at what it takes now; empty when nobody knows."""
    usage = before.get("usage")
    return f"last time it took {_taken(usage)}" if usage else ""


def _taken(usage: Mapping[str, Any]) -> str:
    """Time, memory and disk in words; what is not known is left out."""
    words = [duration(usage["seconds"])]
    for key, what in (("memory_mb", "memory"), ("gpu_memory_mb", "GPU memory"), ("disk_mb", "disk")):
        if (amount := usage.get(key)) and amount >= 1:
            words.append(f"{amount / 1000:.1f} GB of {what}" if amount >= 1000 else f"{amount:.0f} MB of {what}")
    return ", ".join(words)


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
    """Load configs of a bundle as MONAI's command line does it.

    Args:
        config_dir: folder of the configs.
        configs: files in it, a config first.
        overrides: values of its keys.

    Returns:
        the workflow, ready to run.

    Raises:
        ValueError: when no config declares an override.
    """
    files = [str(Path(config_dir) / config) for config in configs]
    check_overrides(overrides, ConfigParser.load_config_files(files), " and ".join(configs))
    workflow = _workflow(Path(config_dir), files, overrides)
    workflow.initialize()
    return workflow


def _workflow(config_dir: Path, files: list[str], overrides: Mapping[str, Any]) -> ConfigWorkflow:
    workflow = ConfigWorkflow(
        config_file=files,
        meta_file=str(config_dir / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **overrides,
    )
    if "run_key" in workflow.parser:
        workflow.parser["run_key"]["config"] = hash_of_configs(files)
    return workflow
