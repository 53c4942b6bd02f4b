"""Segment a folder of images into a folder of masks, going on where an earlier run was cut."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..data import HashCache, images_of, read_json, write_json
from ..data.cases import case_name
from ..data.ranks import rank, share, wait_for_ranks
from .run_key import HASHES, RunKey, plain

__all__ = ["BatchInference"]

RECORD = "batch_inference.json"
logger = logging.getLogger(__name__)


class BatchInference:
    """Cases of a folder of images whose masks are still to be written.

    A mask is finished when its file is there and it was made from the same image, clicks, weights and settings; what
    each mask is made from stands in `prediction_dir`/batch_inference.json. Masks appear complete or not at all, so a
    killed run goes on with the next case. Under torchrun, each process gets its share of the cases.

    Args:
        items: with "image", and what else is said about a case.
        input_dir: where the images are.
        output_dir: of the run.
        prediction_dir: gets the masks, named after the images.
        run_key: of weights and settings.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        input_dir: str | Path,
        output_dir: str | Path,
        prediction_dir: str | Path,
        run_key: RunKey,
    ) -> None:
        self.items = {case_name(images_of(item)[0]): dict(item) for item in items}
        self.input_dir = Path(input_dir)
        self.prediction_dir = Path(prediction_dir)
        self.run_key = run_key
        self.hashes = HashCache(Path(output_dir) / HASHES)

    def path(self, case: str) -> Path:
        """File of a case's mask."""
        return self.prediction_dir / f"{case}.nii.gz"

    def prepare(self) -> None:
        """Delete masks that were made from something else, and record what the next ones are made from.

        The first process does it; the others wait for it.

        Raises:
            ValueError: when `prediction_dir` lies in the folder of the images, or holds masks of the cases that
                something else has written.
        """
        if self.prediction_dir.absolute().is_relative_to(self.input_dir.absolute()):
            raise ValueError(
                f"{self.prediction_dir} lies in {self.input_dir}, so that masks would be taken for images; give "
                "another output_dir."
            )
        if rank() == 0:
            self._claim()
        wait_for_ranks()

    @cached_property
    def remaining(self) -> list[dict[str, Any]]:
        """Items of this process whose masks are still to be written; the share is that of all items."""
        found = [self.items[case] for case in share(list(self.items)) if not self.path(case).exists()]
        logger.info("%d of %d cases are to be segmented by this process", len(found), len(self.items))
        return found

    def _claim(self) -> None:
        record = self.prediction_dir / RECORD
        written = [case for case in self.items if self.path(case).exists()]
        if written and not record.exists():
            raise ValueError(
                f"{self.path(written[0])} was not written by this command; move it away, or give another output_dir."
            )
        before = (
            read_json(record, f"delete it and move the masks in {self.prediction_dir} away, or give another output_dir")
            if record.exists()
            else {}
        )
        now = {
            "made_from": self.run_key.made_from,
            "cases": {case: self._made_from(item) for case, item in self.items.items()},
        }
        for case in written:
            same = before.get("made_from") == now["made_from"] and before["cases"].get(case) == now["cases"][case]
            if not same:
                logger.info("%s is made anew", self.path(case))
                self.path(case).unlink()
        write_json(now, record)

    def _made_from(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Hashes of the images of a case, and what else is said about it."""
        said = {key: plain(value) for key, value in item.items() if key != "image"}
        return {"image": [self.hashes(path) for path in images_of(item)], **said}
