"""Write pseudo-labels as volumes, one file a case, while an evaluator goes through slices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..bundle import RunKey
from ..data import SliceLabels, SliceStore, images_of, read_grid, read_json, write_json, write_nifti
from ..data.ranks import rank, share, wait_for_ranks
from ..networks.cam_pseudo_labeler import soft_to_mask

__all__ = ["PseudoLabelWriter"]

RECORD = "pseudo_labels.json"
logger = logging.getLogger(__name__)


class PseudoLabelWriter:
    """Collect the soft maps of a case's slices and write its pseudo-mask on the volume's own grid.

    A case is written once all slices in which a class is visible have come by; other slices are background. Files
    appear complete or not at all, and a case whose file is there is not asked for again (`remaining`), so a killed
    stage goes on with the next case. Under torchrun, each process has its share of the cases.

    Args:
        cases: items with "case" and "image", whose header gives the grid of the output.
        store: where the slices come from.
        labels: which classes are visible.
        output_dir: gets `<case>.nii.gz` (0 background, k + 1 class k).
        threshold: above which a voxel belongs to a class, see `CAMPseudoLabeler`.
        run_key: of what the pseudo-labels depend on; files of another run are replaced.
        pred_key: where an engine's output items hold the soft maps (K, H, W).
        refine: called with the soft maps (K, H, W, slices) of a case, its image (C, H, W, slices) and the voxel size in
            mm along H, W and slices; gives better maps, such as `SeededRandomWalk`.
    """

    def __init__(
        self,
        cases: Sequence[Mapping[str, Any]],
        store: SliceStore,
        labels: SliceLabels,
        output_dir: str | Path,
        threshold: float = 0.5,
        run_key: RunKey | None = None,
        pred_key: str = "pred",
        refine: Callable[[Tensor, Tensor, Sequence[float]], Tensor] | None = None,
    ) -> None:
        self.images = {item["case"]: images_of(item)[0] for item in share(cases)}
        self.store = store
        self.labels = labels
        self.output_dir = Path(output_dir)
        self.threshold = threshold
        self.run_key = run_key
        self.pred_key = pred_key
        self.refine = refine
        # called with a case and the maps (slices, K, H, W) that its pseudo-label was cut from, once it is written
        self.observers: list[Callable[[str, Tensor], None]] = []
        self._visible = {case: set(np.flatnonzero(labels.matrix(case).any(1)).tolist()) for case in self.images}
        self._slices: dict[str, dict[int, Tensor]] = {}

    @property
    def remaining(self) -> list[str]:
        """Cases of this process whose pseudo-label is still to be written."""
        return [case for case in self.images if not self.path(case).exists()]

    def path(self, case: str) -> Path:
        """File of a case's pseudo-label."""
        return self.output_dir / f"{case}.nii.gz"

    def attach(self, engine: Engine) -> None:
        """Write while an engine runs; its batch items have "case" and "slice", its output items the soft maps."""
        engine.add_event_handler(Events.STARTED, self.prepare)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def prepare(self) -> None:
        """Delete the pseudo-labels of another run, and write the cases in which no class is visible.

        Raises:
            ValueError: when `output_dir` holds masks of the cases that something else has written.
        """
        if self.run_key is not None:
            self._claim(self.run_key)
        self._slices.clear()
        for case in self.remaining:
            if not self._visible[case]:
                self._write(case, {})

    def _claim(self, run_key: RunKey) -> None:
        record, now = self.output_dir / RECORD, run_key.made_from
        written = [self.path(case) for case in self.images if self.path(case).exists()]
        if written and not record.exists():
            raise ValueError(f"{written[0]} was not written by this stage; move it away, or give another label_dir.")
        before = (
            read_json(record, f"delete it and move the masks in {self.output_dir} away, or give another label_dir")
            if record.exists()
            else None
        )
        if before == now:
            return
        wait_for_ranks()  # until all have read the record, so that each deletes its share
        if before is not None:
            logger.info("%s is made anew: %s", self.output_dir, run_key.changes(before))
            for path in written:
                path.unlink()
        if rank() == 0:
            write_json(now, record)
        wait_for_ranks()

    def __call__(self, engine: Engine) -> None:
        """Collect the slices of one iteration."""
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            case = item["case"]
            slices = self._slices.setdefault(case, {})
            slices[int(item["slice"])] = torch.as_tensor(output[self.pred_key]).detach().float().cpu()
            if self._visible[case] <= slices.keys():
                self._write(case, self._slices.pop(case))

    def _write(self, case: str, slices: Mapping[int, Tensor]) -> None:
        geometry = self.store.geometry(case)
        num_classes, size = len(self.labels.classes), geometry.img_size
        maps = torch.zeros(geometry.num_slices, num_classes, size, size)
        for index, soft in slices.items():
            maps[index] = soft
        grid = read_grid(self.images[case])
        if self.refine is not None and slices:
            stacked = self.store.image(case).reshape(len(maps), -1, size, size)
            refined = self.refine(maps.permute(1, 2, 3, 0), stacked.permute(1, 2, 3, 0), geometry.spacing(grid))
            maps = refined.permute(3, 0, 1, 2)
        mask = geometry.from_planes(soft_to_mask(geometry.to_planes(maps), self.threshold))[0]
        write_nifti(mask.numpy(), grid.affine, self.path(case))
        for observer in self.observers:
            observer(case, maps)
