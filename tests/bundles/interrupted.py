"""Trainings that are interrupted, as by a key, when their first checkpoint is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from weakmedsam_ext.handlers import ResumableEpochs


@contextmanager
def interrupted_after_one_epoch() -> Iterator[list[str]]:
    """The block must be interrupted; gives the names of the checkpoints that were written in it."""
    save, written = ResumableEpochs.save, []

    def save_once(self, engine):
        save(self, engine)
        written.append(self.path.name)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ResumableEpochs, "save", save_once)
        with pytest.raises(BaseException):  # noqa: B017 ignite passes KeyboardInterrupt on, MONAI may wrap it
            yield written
