"""What engines tell while they run: a bar on a terminal, one line an epoch in a log, and a table of the training."""

from __future__ import annotations

import csv
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers.tqdm_logger import ProgressBar
from monai.utils import CommonKeys, is_scalar

from ..bundle.usage import peak_memory
from ..data import RemainingTime, duration, on_terminal
from ..metrics.evaluation import write_csv

__all__ = ["EvaluationLog", "TrainingLog", "loss_of", "read_history"]

logger = logging.getLogger(__name__)


def loss_of(output: Any) -> Any:
    """Loss in the output of a MONAI trainer, which is a dictionary, or a list of one for each item of the batch."""
    return (output[0] if isinstance(output, list) else output)[CommonKeys.LOSS]


class TrainingLog:
    """Log a line an epoch, and after the first steps how long the training takes and its memory.

    The table has a row an epoch: "epoch", "loss" (mean over its steps), "seconds", and the validation metrics where
    there was a validation. A training that goes on keeps the rows of the epochs before. Attach this handler after the
    one that validates. Of several processes the first one logs.

    Args:
        description: of the training, begins each line.
        path: of the table, a CSV file, which is replaced after every epoch.
        validator: the engine that validates.
        output_transform: gives the loss of a step from the trainer's output.
    """

    def __init__(
        self,
        description: str,
        path: str | Path,
        validator: Engine | None = None,
        output_transform: Callable[[Any], Any] = loss_of,
    ) -> None:
        self.description = description
        self.path = Path(path)
        self.validator = validator
        self.output_transform = output_transform

    def attach(self, engine: Engine) -> None:
        """Log while a trainer runs."""
        if idist.get_rank() > 0:
            return
        _prepare(engine, self.description)
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)

    def start(self, engine: Engine) -> None:
        """Begin to measure."""
        self._steps: RemainingTime | None = None
        self._first_step = 0
        self._epochs: RemainingTime | None = None
        self._first_epoch = 0
        self._told = False

    def start_epoch(self, engine: Engine) -> None:
        """Begin an epoch; the first one of a start says where the training goes on."""
        if self._epochs is None:
            self._first_epoch = engine.state.epoch - 1
            self._epochs = RemainingTime((engine.state.max_epochs or 0) - self._first_epoch)
        self._began = time.monotonic()
        self._losses: list[Any] = []

    def add_step(self, engine: Engine) -> None:
        """Keep the loss; once, when the speed is known, say how long the training takes."""
        loss = self.output_transform(engine.state.output)
        self._losses.append(loss.detach() if hasattr(loss, "detach") else loss)
        if self._told:
            return
        if self._steps is None:  # the first step, which reads and warms up, would mislead
            self._first_step = engine.state.iteration
            total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
            self._steps = RemainingTime(total - self._first_step)
        elif message := self._steps.message(engine.state.iteration - self._first_step, "steps"):
            self._told = True
            memory = peak_memory()
            taken = f"; {memory / 1000:.1f} GB of memory so far" if memory else ""
            logger.info("%s: %s%s", self.description, message, taken)

    def end_epoch(self, engine: Engine) -> None:
        """Log the epoch and write the table."""
        self._told = True  # an epoch's line says it better
        epoch, epochs = engine.state.epoch, engine.state.max_epochs or engine.state.epoch
        loss = sum(map(float, self._losses)) / max(len(self._losses), 1)
        seconds = time.monotonic() - self._began
        metrics = self._validated(epoch)
        rows = [row for row in read_history(self.path) if row["epoch"] < epoch] if epoch > 1 else []
        rows.append({"epoch": epoch, "loss": round(loss, 6), "seconds": round(seconds, 1), **metrics})
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_csv([{name: row.get(name) for name in columns} for row in rows], self.path)
        found = "".join(f", {name} {value:.4f}" for name, value in metrics.items())
        left = ""
        if self._epochs is not None and epoch < epochs:
            left = f", about {duration(self._epochs.seconds(epoch - self._first_epoch))} to go"
        took = duration(seconds)
        logger.info("%s: epoch %d of %d, loss %.4f%s, %s%s", self.description, epoch, epochs, loss, found, took, left)

    def _validated(self, epoch: int) -> dict[str, float]:
        """Metrics of a validation after this very epoch."""
        if self.validator is None or self.validator.state.epoch != epoch:
            return {}
        return _numbers(self.validator.state.metrics)


class EvaluationLog:
    """Log how long an evaluator takes, from its first batches, and a line with its metrics when it is done.

    Args:
        description: of what it does, begins each line.
    """

    def __init__(self, description: str) -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Log while an evaluator runs; of several processes the first one does."""
        if idist.get_rank() > 0:
            return
        _prepare(engine, self.description)
        engine.add_event_handler(Events.EPOCH_STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add_batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.end)

    def start(self, engine: Engine) -> None:
        """Begin to measure."""
        self._began = time.monotonic()
        self._left = RemainingTime(engine.state.epoch_length or 0)
        self._batches = 0

    def add_batch(self, engine: Engine) -> None:
        """Say how long it takes, when that is known and worth a line."""
        self._batches += 1
        if message := self._left.message(self._batches, "batches"):
            logger.info("%s: %s", self.description, message)

    def end(self, engine: Engine) -> None:
        """Log the result."""
        found = "".join(f", {name} {value:.4f}" for name, value in _numbers(engine.state.metrics).items())
        logger.info("%s: done in %s%s", self.description, duration(time.monotonic() - self._began), found)


def read_history(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a `TrainingLog`'s table, numbers or None; empty when there is no table."""
    path = Path(path)
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: float(text) if text else None for name, text in row.items()} for row in csv.DictReader(file)]
    return [{**row, "epoch": int(row["epoch"] or 0)} for row in rows]


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if is_scalar(value)}


def _prepare(engine: Engine, description: str) -> None:
    """A bar where somebody watches; Ignite's own lines at every start and end are not needed beside ours."""
    if on_terminal():
        ProgressBar(desc=description).attach(engine)
    engine.logger.addFilter(_without_engine_lines)


def _without_engine_lines(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("Engine run resuming", "Engine run starting", "Engine run finished", "Epoch[")
    )
