"""Soak test of pipelines: each is killed at random times until it ends, and must give what an undisturbed run gives.

Weights, masks and metrics are compared number by number. The exit status is 1 when anything differs:

    python benchmarks/soak.py --runs 20 --seed 0
    python benchmarks/soak.py --pipelines "['promptable_2d']" --runs 1
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import torch
from common import report

from weakmedsam_ext.data import write_phantoms

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
NUM_CASES, SIZE = 6, (32, 36, 8)
COMMON = {"num_folds": 2, "num_test": 2, "train_epochs": 2, "val_interval": 1, "device": "cpu"}
# kind -> bundle and settings that make its pipeline small
PIPELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "weakmedsam": (
        "weakmedsam_msd_heart",
        {"img_size": 32, "roi_size": 32, "pretrain_epochs": 1, "cam_epochs": 1, "walk_size": 16, "num_subclasses": 2},
    ),
    "semisam": (
        "semisam_la2018",
        {"roi_size": [32, 32, 16], "stride": [16, 16, 16], "spacing": 2.5, "channels": 2, "batches_per_epoch": 2}
        | {"labelled": 2},
    ),
    "promptable_2d": ("promptable_pretrain_2d", {"img_size": 32, "slices_per_case": 2, "min_size": 8}),
    "promptable_3d": (
        "promptable_pretrain_3d",
        {"img_size": 32, "spacing": 2.5, "samples_per_volume": 1, "min_size": 8},
    ),
}
MAX_KILLS = 8  # of one run, which is left alone afterwards
TIMEOUT_S = 3600


def main(
    runs: int = 20,
    seed: int = 0,
    pipelines: Sequence[str] = tuple(PIPELINES),
    output_dir: str | None = None,
    csv_path: str | None = None,
) -> None:
    """Soak every pipeline.

    Args:
        runs: disturbed runs of each pipeline.
        seed: of the times at which runs are killed.
        pipelines: some of "weakmedsam", "semisam", "promptable_2d" and "promptable_3d".
        output_dir: gets the phantoms and all runs; a temporary folder, removed at the end, without.
        csv_path: CSV file of the table.
    """
    unknown = [name for name in pipelines if name not in PIPELINES]
    if unknown or runs < 1:
        raise SystemExit(f"expected runs of at least 1 and pipelines of {list(PIPELINES)}, but got {runs}, {unknown}.")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(output_dir or temporary).absolute()
        data = root / "data"
        write_phantoms(data, num_cases=NUM_CASES, size=SIZE, progress=False)
        rows = [row for name in pipelines for row in _soak(name, data, root / name, runs, seed)]
    report(rows, csv_path)
    if any(row["differences"] for row in rows):
        raise SystemExit("some runs differ from the undisturbed one")


def _soak(name: str, data: Path, root: Path, runs: int, seed: int) -> list[dict[str, Any]]:
    """One row a disturbed run."""
    start = time.monotonic()
    _until_done(name, data, root / "undisturbed", [])
    duration, expected = time.monotonic() - start, _results(root / "undisturbed")
    if not expected:
        raise SystemExit(f"{name}: the undisturbed run has written nothing to compare")
    rows = []
    for number in range(runs):
        # a text as seed gives the same numbers in every process
        chance = random.Random(f"{seed} {name} {number}")
        delays = [chance.uniform(0, duration) for _ in range(MAX_KILLS)]
        output = root / f"run_{number:02d}"
        kills = _until_done(name, data, output, delays)
        different = _differences(expected, _results(output))
        print(f"{name} {number}: {kills} kills, differences: {different or 'none'}", flush=True)
        rows.append({"pipeline": name, "run": number, "kills": kills, "differences": len(different)})
    return rows


def _until_done(name: str, data: Path, output: Path, delays: Sequence[float]) -> int:
    """Start a pipeline again and again, kill it after each delay in seconds, and give the number of kills."""
    bundle, small = PIPELINES[name]
    settings = {**COMMON, **small, "bundle_root": ".", "dataset_dir": data, "output_dir": output}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
    command += [str(["configs/pipeline.json", "configs/demo.json"])]
    command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    output.mkdir(parents=True, exist_ok=True)
    for kills, delay in enumerate([*delays, None]):
        with (output.parent / f"{output.name}.log").open("a", encoding="utf-8") as log:
            # a session of its own, so that its workers are killed with it
            process = subprocess.Popen(
                command, cwd=BUNDLES / bundle, stdout=log, stderr=log, start_new_session=True, env=_environment()
            )
            try:
                status = process.wait(TIMEOUT_S if delay is None else delay)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                if delay is None:
                    raise SystemExit(f"{name}: no end after {TIMEOUT_S} s, see {log.name}") from None
                continue
        if status:
            raise SystemExit(f"{name}: ended with status {status} after {kills} kills:\n{_tail(Path(log.name))}")
        return kills
    raise AssertionError("the last start has no delay")


def _environment() -> dict[str, str]:
    """That of this process, with the package of this checkout first."""
    paths = [str(BUNDLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


def _results(output: Path) -> dict[str, Any]:
    """Name -> tensors of weights, voxels of masks, content of metrics."""
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if "/." in f"/{name}" or "partial" in path.name:
            continue
        if path.suffix == ".pt" and path.parent.name == "models":
            found[name] = torch.load(path, map_location="cpu", weights_only=True)
        elif path.name.endswith(".nii.gz"):
            image: Any = nib.load(path)
            found[name] = np.asarray(image.dataobj), image.affine
        elif path.name in ("metrics.json", "metrics.csv"):
            text = path.read_text(encoding="utf-8")
            found[name] = json.loads(text) if path.suffix == ".json" else text
    return found


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of results that are missing, too many or different."""
    names = sorted({*expected, *found})
    return [name for name in names if not (name in expected and name in found and _same(expected[name], found[name]))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple):
        return all(_same(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


if __name__ == "__main__":
    fire.Fire(main)
