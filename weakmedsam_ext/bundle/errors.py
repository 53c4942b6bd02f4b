"""Errors that the user can mend, told in one sentence."""

from __future__ import annotations

import errno
import os
import re
import sys
from types import TracebackType

from monai.utils import MONAIEnvVars

__all__ = ["one_sentence", "one_sentence_errors", "root_cause"]

# what readers, settings and missing packages raise; anything else is a defect and keeps its traceback
EXPECTED = (ValueError, OSError, ImportError)
COMMAND_LINE = "monai.bundle.__main__"


def one_sentence(error: BaseException) -> str | None:
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


def one_sentence_errors() -> None:
    """Let `python -m monai.bundle run` end in one sentence instead of a traceback when the input is at fault.

    A config calls it first in `initialize`. It does nothing in any other program, such as a notebook or a server that
    runs the same config: there an error is the caller's to handle. With the environment variable MONAI_DEBUG=1
    tracebacks stay.
    """
    program = getattr(sys.modules["__main__"], "__spec__", None)
    if getattr(program, "name", None) == COMMAND_LINE and not MONAIEnvVars.debug():
        sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    sentence = one_sentence(error)
    if sentence is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(f"error: {sentence}", file=sys.stderr)
