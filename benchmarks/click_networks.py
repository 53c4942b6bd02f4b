"""IoU with structures of real masks after one, three and five clicks, of networks that never saw such images.

    python benchmarks/click_networks.py --source FOLDER [--dims 2] [--data la,ct,brain] [--weights FILE] [--csv FILE]

Cases, slices, structures and clicks are those of the evaluation of `promptable_pretrain_2d` and `_3d` (held-out cases
of the split that their pages name), so that the numbers compare. "surest" is the network left to itself: zero-shot.
With `--chosen True` the mask that answers the first click is also chosen on masks of training cases, as on those
pages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fire
import torch
from common import report
from torch import nn

from weakmedsam_ext.data import (
    build_slice_store,
    build_volume_store,
    prepare_abdomenct1k,
    prepare_brats2019,
    prepare_la2018,
    split_decathlon,
)
from weakmedsam_ext.metrics import (
    NetworkAnswer,
    SliceClickItems,
    VolumeClickItems,
    best_single_click_mask,
    evaluate_clicks,
)
from weakmedsam_ext.networks import build_network

CLICKS = (1, 3, 5)
ORGANS = {"liver": 1, "kidney": 2, "spleen": 3, "pancreas": 4}


@dataclass(frozen=True)
class Task:
    """What is clicked on in one data set.

    Attributes:
        folder: below the source.
        prepare: writes the data set in Decathlon layout.
        class_map: structures.
        split: of `split_decathlon`.
        min_size: smaller structures are left out, in pixels or voxels.
        side: of the network's input, in pixels or voxels.
        spacing: mm a voxel; of volumes only.
    """

    folder: str
    prepare: Any
    class_map: dict[str, Any]
    split: dict[str, int]
    min_size: int
    side: int
    spacing: float = 0.0


LA, CT, BRAIN = "la2018", "abdomenct1k_layout", "lgg_brats_layout"
ATRIUM, TUMOUR = {"left atrium": 1}, {"abnormality": [1, 2, 4]}
TASKS = {
    2: {
        "la": Task(LA, prepare_la2018, ATRIUM, {"num_folds": 8, "num_test": 5}, 40, 128),
        "ct": Task(CT, prepare_abdomenct1k, ORGANS, {"num_folds": 6, "num_test": 2}, 40, 128),
        "brain": Task(BRAIN, prepare_brats2019, TUMOUR, {"num_folds": 5, "num_test": 12}, 40, 128),
    },
    3: {
        "la": Task(LA, prepare_la2018, ATRIUM, {"num_folds": 20, "num_test": 8}, 100, 32, 2.5),
        "ct": Task(CT, prepare_abdomenct1k, ORGANS, {"num_folds": 6, "num_test": 2}, 100, 64, 2.5),
    },
}


def click_items(task: Task, dims: int, source: Path, work: Path, part: str, most: int | None = None) -> Any:
    """Items of the held-out or of the training cases, which are read and stored at the first call."""
    layout = work / task.folder
    if not (layout / "dataset.json").exists():
        task.prepare(source / task.folder, layout)
    cases = [case for case in split_decathlon(layout, **task.split)[part] if "label" in case][:most]
    if dims == 2:
        slices = build_slice_store(cases, work / "slices", task.side)
        return SliceClickItems(slices, cases, task.class_map, min_size=task.min_size, max_slices_per_case=12)
    volumes = build_volume_store(cases, work / "volumes", task.spacing)
    return VolumeClickItems(volumes, cases, task.class_map, task.side, min_size=task.min_size)


def evaluated_rows(network: nn.Module, name: str, items: Any, answers: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each class and way to answer the first click."""
    rows = []
    for answer, single_click_mask in answers.items():
        evaluation = evaluate_clicks(NetworkAnswer(network, single_click_mask), items, None, CLICKS)
        summary = evaluation.metrics["summary"]["clicks"]
        for structure, values in summary.items():
            scores = {f"iou_{click}": values[f"iou_{click}"]["mean"] for click in CLICKS}
            row = {"data": name, "answer": f"{answer} ({single_click_mask})", "class": structure}
            rows.append({**row, "structures": values["structures"], **scores})
    return rows


def main(
    source: str = "../shared/data",
    work: str = "runs/click_networks",
    dims: int = 2,
    data: Any = ("la", "ct", "brain"),
    weights: str | None = None,
    network: str | None = None,
    random: bool = False,
    chosen: bool = False,
    training_cases: int = 5,
    cases: int | None = None,
    side: int | None = None,
    device: str = "cpu",
    csv: str | None = None,
) -> None:
    """Evaluate.

    Args:
        source: folder with the data sets as downloaded.
        work: folder for prepared data.
        dims: 2 or 3.
        data: which of "la", "ct", "brain".
        weights: file for `load_checkpoint`; those in the package without.
        network: name for `build_network`, click_net_2d or click_net_3d unless given.
        random: use random weights.
        chosen: also choose the mask of the first click on masks of training cases.
        training_cases: how many.
        cases: held-out cases at most.
        side: of the input, instead of that of the task.
        device: of the network.
        csv: file for the table.
    """
    torch.manual_seed(0)
    settings = {"pretrained": False} if random else {}
    name = network or f"click_net_{dims}d"
    rows = []
    for key in data.split(",") if isinstance(data, str) else data:
        if key not in TASKS[dims]:
            continue
        task = TASKS[dims][key]
        if side is not None:
            task = Task(**{**vars(task), "side": side})
        net = build_network(name, weights, img_size=task.side, **settings).to(device)
        items = click_items(task, dims, Path(source), Path(work), "test", cases)
        answers: dict[str, Any] = {"surest": None}
        if chosen:
            training = click_items(task, dims, Path(source), Path(work), "train", training_cases)
            answers["chosen"] = best_single_click_mask(net, training)
        rows += evaluated_rows(net, key, items, answers)
    report([{"weights": "random" if random else weights or "package", "dims": dims, **row} for row in rows], csv)


if __name__ == "__main__":
    fire.Fire(main)
