"""IoU with structures of real masks after one, three and five clicks, of networks that never saw such images.

    python benchmarks/click_networks.py --source FOLDER [--dims 2] [--data la,ct,brain] [--weights FILE] [--csv FILE]
        [--chosen True] [--random True] [--regions True]

Cases, slices, structures and clicks are those of the evaluation of `promptable_pretrain_2d` and `_3d` (held-out cases
of the split that their pages name), so that the numbers compare. "surest" is the network left to itself: zero-shot.
With `--chosen True` the mask that answers the first click is also chosen on masks of training cases, as on those
pages. `--random True` scores random weights, `--regions True` the regions under the clicks, without a network, at
the level that suits the training cases best.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fire
import torch
from common import report

from weakmedsam_ext.data import (
    build_region_store,
    build_slice_store,
    build_volume_regions,
    build_volume_store,
    prepare_abdomenct1k,
    prepare_brats2019,
    prepare_la2018,
    split_dataset,
)
from weakmedsam_ext.metrics import (
    Evaluation,
    NetworkAnswer,
    SliceClickItems,
    VolumeClickItems,
    best_single_click_mask,
    best_superpixel_levels,
    evaluate_clicks,
    evaluate_superpixels,
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
        split: of `split_dataset`.
        min_size: smaller structures are left out, in pixels or voxels.
        side: of the network's input, in pixels or voxels.
        spacing: mm a voxel; of volumes only.
        smoothings: of the regions; of slices only.
    """

    folder: str
    prepare: Any
    class_map: dict[str, Any]
    split: dict[str, int]
    min_size: int
    side: int
    spacing: float = 0.0
    smoothings: tuple[float, ...] | None = None


LA, CT, BRAIN = "la2018", "abdomenct1k_layout", "lgg_brats_layout"
ATRIUM, TUMOUR = {"left atrium": 1}, {"abnormality": [1, 2, 4]}
TASKS = {
    2: {
        "la": Task(LA, prepare_la2018, ATRIUM, {"num_folds": 8, "num_test": 5}, 40, 128),
        "ct": Task(CT, prepare_abdomenct1k, ORGANS, {"num_folds": 6, "num_test": 2}, 40, 128, 0.0, (0.5, 0.8)),
        "brain": Task(BRAIN, prepare_brats2019, TUMOUR, {"num_folds": 5, "num_test": 12}, 40, 128),
    },
    3: {
        "la": Task(LA, prepare_la2018, ATRIUM, {"num_folds": 20, "num_test": 8}, 100, 32, 2.5),
        "ct": Task(CT, prepare_abdomenct1k, ORGANS, {"num_folds": 6, "num_test": 2}, 100, 64, 2.5),
    },
}


def click_items(
    task: Task, dims: int, source: Path, work: Path, part: str, most: int | None = None, regions: bool = False
) -> Any:
    """Items of the held-out or of the training cases, which are read and stored at the first call."""
    layout = work / task.folder
    if not (layout / "dataset.json").exists():
        task.prepare(source / task.folder, layout)
    cases = [case for case in split_dataset(layout, **task.split)[part] if "label" in case][:most]
    where = work / "regions"
    if dims == 2:
        slices = build_slice_store(cases, work / "slices", task.side)
        store = build_region_store(slices, where, smoothings=task.smoothings) if regions else None
        return SliceClickItems(slices, cases, task.class_map, store, min_size=task.min_size, max_slices_per_case=12)
    volumes = build_volume_store(cases, work / "volumes", task.spacing)
    volume_regions = build_volume_regions(volumes, where) if regions else None
    return VolumeClickItems(volumes, cases, task.class_map, task.side, volume_regions, min_size=task.min_size)


def rows_of(evaluation: Evaluation, name: str, answer: str) -> list[dict[str, Any]]:
    """One row for each class."""
    rows = []
    for structure, values in evaluation.metrics["summary"]["clicks"].items():
        scores = {f"iou_{click}": values[f"iou_{click}"]["mean"] for click in CLICKS}
        rows.append({"data": name, "answer": answer, "class": structure, "structures": values["structures"], **scores})
    return rows


def main(
    source: str = "../shared/data",
    work: str = "runs/click_networks",
    dims: int = 2,
    data: Any = ("la", "ct", "brain"),
    weights: str | None = None,
    network: str | None = None,
    random: bool = False,
    regions: bool = False,
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
        regions: score the regions under the clicks instead of a network.
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
        source_of = partial(click_items, task, dims, Path(source), Path(work), regions=regions)
        items = source_of("test", cases)
        training = source_of("train", training_cases) if chosen or regions else None
        if regions:
            rows += rows_of(evaluate_superpixels(items, best_superpixel_levels(training, CLICKS)), key, "chosen levels")
            continue
        net = build_network(name, weights, img_size=task.side, **settings).to(device)
        answers = {"surest": None, **({"chosen": best_single_click_mask(net, training)} if chosen else {})}
        for answer, mask in answers.items():
            evaluation = evaluate_clicks(NetworkAnswer(net, mask), items, None, CLICKS)
            rows += rows_of(evaluation, key, f"{answer} ({mask})")
    used = "regions" if regions else "random" if random else weights or "package"
    report([{"weights": used, "dims": dims, **row} for row in rows], csv)


if __name__ == "__main__":
    fire.Fire(main)
