"""Process cases in worker processes that end with their parent and do not run its program again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import current_process, get_context, parent_process
from pathlib import Path
from threading import Thread
from types import ModuleType

__all__ = ["compute_cases"]


def compute_cases(compute: Callable[[str, Path], None], missing: Mapping[str, Path], num_workers: int) -> Iterator[str]:
    """Call a function with every case and its file.

    Args:
        compute: writes the file of a case; with several processes something of an imported module that can be pickled.
        missing: case -> file.
        num_workers: processes, a case each; -1 for one per core, 1 for none but this one. Workers of a `DataLoader`
            may have none.

    Returns:
        the cases as they are finished.
    """
    if num_workers == -1:
        # from Python 3.13 on, the cores that this process may use
        num_workers = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    num_workers = 1 if current_process().daemon else min(len(missing), num_workers)
    if num_workers <= 1:
        for case, path in missing.items():
            compute(case, path)
            yield case
        return
    # children of a process that may hold threads and a GPU start afresh
    with ProcessPoolExecutor(num_workers, get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            with _hidden_program():
                running = {pool.submit(compute, case, path): case for case, path in missing.items()}
            for done in as_completed(running):
                done.result()
                yield running[done]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _hidden_program() -> Iterator[None]:
    """Processes that start in this context do not import the program, which would run again without a main guard."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _end_with_parent() -> None:
    """End this worker when its parent is killed, else it waits for ever; Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None  # a worker has one

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()
