"""Progress of long work: a bar on a terminal, a few lines in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

__all__ = ["RemainingTime", "duration", "on_terminal", "show_progress"]

logger = logging.getLogger(__name__)
Item = TypeVar("Item")

# after so many seconds and rounds the speed is known well enough
MEASURED = 5.0
LEAST_ROUNDS = 5
WORTH_A_LINE = 10.0  # seconds that are left
EVERY = 300.0  # seconds between two lines


def on_terminal() -> bool:
    """Whether somebody watches: bars go to the standard error stream."""
    return sys.stderr.isatty()


def show_progress(
    items: Iterable[Item], description: str, unit: str, total: int | None = None, enabled: bool = True
) -> Iterator[Item]:
    """Iterate with a bar on a terminal; elsewhere log how long it takes, from the measured speed.

    Args:
        items: what to iterate over.
        description: what is done with them.
        unit: what an item is called.
        total: number of items; that of `items` by default.
        enabled: show progress at all.

    Yields:
        the items.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if enabled and total != 0 and on_terminal():
        yield from tqdm(items, desc=description, unit=unit, total=total)
        return
    left = RemainingTime(total) if enabled and total else None
    for done, item in enumerate(items, 1):
        yield item
        message = left.message(done, f"{unit}s") if left is not None else None
        if message:
            logger.info("%s: %s", description, message)


class RemainingTime:
    """What is left of a loop, from its measured speed; told after some seconds, then every few minutes.

    The clock starts when the object is made.

    Args:
        total: number of rounds.
        clock: gives seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._clock = clock
        self._start = clock()
        self._due = MEASURED

    def seconds(self, done: int) -> float:
        """Seconds that are left after some rounds, at least one."""
        return (self._clock() - self._start) / done * (self.total - done)

    def message(self, done: int, unit: str) -> str | None:
        """A line such as "12 of 45 cases, about 20 s to go", when it is time for one and more than a moment is left."""
        passed = self._clock() - self._start
        if passed < self._due or done < LEAST_ROUNDS:
            return None
        self._due = passed + EVERY
        left = self.seconds(done)
        return f"{done} of {self.total} {unit}, about {duration(left)} to go" if left >= WORTH_A_LINE else None


def duration(seconds: float) -> str:
    """A time to read: "8 s", "12 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
