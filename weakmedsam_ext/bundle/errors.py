"""Errors that the user can mend, told in one sentence; the traceback goes to a log file."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from functools import partial
from pathlib import Path
from types import TracebackType

from monai.utils import MONAIEnvVars

from .command_line import check_command_line, runs_from_command_line

__all__ = ["begin_run", "log_traceback", "root_cause", "user_message"]

# what readers, settings and missing packages raise; anything else is a defect and keeps its traceback
EXPECTED = (ValueError, OSError, ImportError)
LOG = "logs/errors.log"


def begin_run(output_dir: str | Path) -> None:
    """Let `python -m monai.bundle run` refuse unknown overrides, and end in one sentence when the input is at fault.

    A config calls it first in `initialize`. It does nothing in any other program, such as a notebook or a server that
    runs the same config: there an error is the caller's to handle. With the environment variable MONAI_DEBUG=1
    tracebacks stay on the screen; they are in `output_dir`/logs/errors.log in any case.

    Args:
        output_dir: of the run.

    Raises:
        ValueError: when the command line sets something that no config declares.
    """
    if runs_from_command_line():
        if str(output_dir).startswith("~"):
            raise ValueError("output_dir: ~ is not expanded here, this would be a folder named ~; give a whole path.")
        sys.excepthook = partial(_report, Path(output_dir))
        check_command_line()


def user_message(error: BaseException) -> str | None:
    """What went wrong and what to do about it; None when it is nothing that the user can mend."""
    cause = root_cause(error)
    # MONAI's writers hide a full disk in an error of their own, which keeps its words
    full = os.strerror(errno.ENOSPC)
    if full in str(cause):
        file = re.search(rf"{full}: '([^']+)'", str(cause))
        where = f" for {file[1]}" if file else ""
        return f"no space is left on the disk{where}; free some and run the same command again, it goes on from there."
    return re.sub(r"\s*\n\s*", " ", str(cause).strip()) if isinstance(cause, EXPECTED) else None


def root_cause(error: BaseException) -> BaseException:
    """The error that the others were raised from: MONAI wraps what a config's expression raises."""
    while error.__cause__ is not None and isinstance(error, RuntimeError):
        error = error.__cause__
    return error


def log_traceback(error: BaseException, path: Path) -> None:
    """Append the traceback of an error to a file; where that cannot be written, the error itself matters more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        pass


def _report(output_dir: Path, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        log_traceback(error, output_dir / LOG)
    sentence = user_message(error)
    if sentence is None or MONAIEnvVars.debug():
        sys.__excepthook__(kind, error, trace)
    if sentence is not None:
        print(f"error: {sentence}", file=sys.stderr)
