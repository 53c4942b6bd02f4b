"""What each step from slice labels to masks adds: the pipeline with one setting changed at a time.

python benchmarks/slice_label_steps.py --bundle_root bundles/weakmedsam_brats2019 --dataset_dir DATA --output_dir RUNS \
    [--variants "['as the recipe']"] [--trained "['as the recipe']"] [--settings "{'num_folds': 9}"] [--csv FILE]

Each variant is a run of its own in RUNS, which goes on where it was stopped. It starts from a copy of the recipe's run
where there is one, so that the stages before the changed one are not run again. It ends with the pseudo-labels, which
are compared with the masks of the training cases, or, where `trained` names it, with the network and held-out cases.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fire
from common import report
from monai.utils import look_up_option

from weakmedsam_ext.bundle import training_workflow
from weakmedsam_ext.metrics import evaluate_predictions

RECIPE = "as the recipe"
VARIANTS: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "pooling by the mean": {"pooling": "mean"},
    "head without bias": {"head_bias": False},
    "maps scaled by minimum and maximum": {"cam_scaling": "minmax"},
    "maps of one image size": {"cam_scales": [1.0]},
    "no flipped maps": {"cam_flip": False},
    "no turned and scaled slices": {"cam_affine": 0.0},
    "sub-classes": {"subclass_weight": 1.0},
    "no seeded walk": {"seeded_walk": False},
    "walk along prompt affinity, too": {"use_affinity": True, "prompter": "click_net_2d"},
    "segmenter without ImageNet weights": {"segmenter": "unet"},
}
STEPS = {
    "maps, training cases": ("train", "cam_labels"),
    "pseudo-labels, training cases": ("train", "pseudo_labels"),
    "network, held-out cases": ("test", "predictions"),
}
LAST_OF_LABELS, LAST = "pseudo_label", "predict"


def scores_of(last: str, bundle_root: str, output_dir: Path, **settings: Any) -> dict[str, float]:
    """Run the pipeline up to a stage; gives mean and deviation of the first class's volume Dice, for each step."""
    where = {"bundle_root": bundle_root, "output_dir": str(output_dir)}
    workflow = training_workflow(f"{bundle_root}/configs", "pipeline.json", check=False, **where, **settings)
    stages = workflow.parser["stages"]
    workflow.parser["stages"] = stages[: [stage["name"] for stage in stages].index(last) + 1]
    workflow.run()
    workflow.finalize()
    class_map, split = (workflow.parser.get_parsed_content(name) for name in ("class_map", "split"))
    scores = {}
    for step, (part, masks) in STEPS.items():
        if (output_dir / masks).is_dir():
            folder = output_dir / "evaluation" / masks
            metrics = evaluate_predictions(split[part], output_dir / masks, class_map, folder).metrics
            found = metrics["summary"]["volume"][next(iter(class_map))]["dice"]
            scores |= {step: found["mean"], f"{step}, deviation": found["std"]}
    return scores


def main(
    bundle_root: str,
    dataset_dir: str,
    output_dir: str,
    variants: Sequence[str] = tuple(VARIANTS),
    trained: Sequence[str] = (RECIPE, "no seeded walk", "segmenter without ImageNet weights"),
    settings: dict[str, Any] | None = None,
    csv: str | None = None,
) -> None:
    """Measure.

    Args:
        bundle_root: the bundle.
        dataset_dir: its data.
        output_dir: for a folder a variant.
        variants: names of `VARIANTS`.
        trained: those whose network is trained, too.
        settings: of the pipeline, for all variants.
        csv: file for the table.
    """
    rows = []
    for name in variants:
        changed = look_up_option(name, VARIANTS)
        folder, recipe = (Path(output_dir) / title.replace(" ", "_").replace(",", "") for title in (name, RECIPE))
        start = time.perf_counter()
        if recipe.exists() and not folder.exists():
            copied = folder.with_name(folder.name + ".part")
            shutil.rmtree(copied, ignore_errors=True)
            shutil.copytree(recipe, copied, ignore=shutil.ignore_patterns("predictions"))
            copied.rename(folder)
        scores = scores_of(
            LAST if name in trained else LAST_OF_LABELS,
            bundle_root,
            folder,
            dataset_dir=dataset_dir,
            **(settings or {}),
            **changed,
        )
        rows.append({"variant": name, "minutes": (time.perf_counter() - start) / 60, **scores})
        print(rows[-1], flush=True)
    titles = dict.fromkeys(title for row in rows for title in row)
    report([{title: row.get(title, "") for title in titles} for row in rows], csv)


if __name__ == "__main__":
    fire.Fire(main)
