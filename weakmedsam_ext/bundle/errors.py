"""Errors that the user can mend, told in one sentence; the traceback goes to a log file."""

from __future__ import annotations

import atexit
import errno
import logging
import multiprocessing
import os
import re
import sys
import threading
import time
import traceback
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.utils import MONAIEnvVars

from .command_line import check_command_line, runs_from_command_line

__all__ = ["INTERRUPTED", "begin_run", "join_workers", "log_traceback", "root_cause", "user_message"]

# what readers, settings and missing packages raise; anything else is a defect and keeps its traceback
EXPECTED = (ValueError, OSError, ImportError)
LOG = "logs/errors.log"
INTERRUPTED = "interrupted; the same command goes on where it stopped."
JOIN_SECONDS = 30.0  # that threads get to end their work; one image takes a few
# how an error of a data loader's worker begins and how its text tells the first of the errors in it
WORKER = re.compile(r"^Caught \w+ in .*worker")
FIRST_ERROR = re.compile(
    r"^(?:[\w.]+\.)?(\w+(?:Error|Exception)): (.*(?:\n(?!\n|Traceback|The above).*)*)", re.MULTILINE
)


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
        if not isinstance(output_dir, (str, Path)):
            raise ValueError(f"output_dir: {output_dir!r} was read as a number; write it as ./{output_dir}.")
        if str(output_dir).startswith("~"):
            raise ValueError("output_dir: ~ is not expanded here, this would be a folder named ~; give a whole path.")
        sys.excepthook = partial(_report, Path(output_dir))
        atexit.register(join_workers)
        logging.setLogRecordFactory(_without_traceback)
        check_command_line()
        _check_output(Path(output_dir))


def user_message(error: BaseException) -> str | None:
    """What went wrong and what to do about it; None when it is nothing that the user can mend."""
    cause = root_cause(error)
    if isinstance(cause, KeyboardInterrupt):
        return INTERRUPTED
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
    return _of_worker(error) if WORKER.match(str(error)) else error


def join_workers() -> None:
    """Let threads end and end processes, before the interpreter does.

    A thread that is inside a library of C++ when the interpreter ends takes the whole process down with a signal.
    """
    for process in multiprocessing.active_children():
        process.terminate()
        process.join(JOIN_SECONDS)
    deadline = time.monotonic() + JOIN_SECONDS
    for thread in threading.enumerate():
        # only those of pools: a progress bar's monitor never ends
        if thread is not threading.current_thread() and thread.daemon and _is_of_pool(thread):
            thread.join(max(0.0, deadline - time.monotonic()))


def _is_of_pool(thread: threading.Thread) -> bool:
    """Whether a thread works for a `multiprocessing.pool.ThreadPool`, as MONAI's caches do."""
    return type(thread).__module__ == "multiprocessing.dummy"


def _of_worker(error: BaseException) -> BaseException:
    """The first error in the text that a data loader passes on from its worker; the same error where none is found."""
    found = FIRST_ERROR.search(str(error))
    known = {kind.__name__: kind for kind in (ValueError, FileNotFoundError, PermissionError, OSError, ImportError)}
    return known[found[1]](found[2]) if found and found[1] in known else error


def _check_output(output_dir: Path) -> None:
    """Refuse a folder that cannot be written before anything is computed."""
    existing = next(path for path in (output_dir.absolute(), *output_dir.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise ValueError(f"output_dir: {existing} is a file, not a folder; give another folder.")
    # os.access says yes to root on a file system that is mounted read-only
    probe = existing / f".{os.getpid()}.partial"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OSError(error.errno, error.strerror, str(output_dir)) from error
        raise ValueError(
            f"output_dir: {output_dir} cannot be written ({error.strerror}); give another folder."
        ) from error


def _without_traceback(*arguments: Any, **named: Any) -> logging.LogRecord:
    """Log record without the traceback that MONAI's handlers add: the sentence would be lost below it."""
    record = logging.LogRecord(*arguments, **named)
    if not MONAIEnvVars.debug():
        record.exc_info = None
    return record


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
        print(sentence if isinstance(error, KeyboardInterrupt) else f"error: {sentence}", file=sys.stderr)
