"""Trainings with several processes as the bundles' documents start them, on CPUs: gloo in place of NCCL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from semisam_runs import SMALL as SMALL_SEMISAM

from weakmedsam_ext.data import write_phantoms

BUNDLES = Path(__file__).parents[2] / "bundles"
SMALL_PRETRAINING = {"num_folds": 3, "num_test": 2, "epochs": 1, "num_clicks": 2, "num_rounds": 2}
SMALL = {
    "weakmedsam_msd_heart": {"num_folds": 3, "num_test": 2, "roi_size": 32, "epochs": 1},
    "semisam_la2018": {**SMALL_SEMISAM, "epochs": 1},
    "semisam_brats2019": {**SMALL_SEMISAM, "epochs": 1},
    "promptable_pretrain_2d": {**SMALL_PRETRAINING, "backbone": "efficient_sam_tiny", "img_size": 32},
    "promptable_pretrain_3d": {**SMALL_PRETRAINING, "samples_per_volume": 1},
}
PROCESSES = 2


def on_cpus(overlay):
    """What else is different without GPUs, and at the end the weights of every process."""
    wrapped = {"network#device_ids": None} if "network" in overlay else {}
    initialize = [
        line.replace("'nccl'", "'gloo'") for line in overlay["initialize"] if "torch.cuda.set_device" not in line
    ]
    save = "$torch.save(@network.state_dict(), @output_dir + '/rank_' + os.environ['RANK'] + '.pt')"
    finalize = [save, *overlay["finalize"]]
    return {"device": "$torch.device('cpu')", **wrapped, "initialize": initialize, "finalize": finalize}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_processes_end_with_the_same_weights(name, tmp_path):
    """Each sees its own data, so that weights are equal only where gradients are averaged."""
    configs, output = BUNDLES / name / "configs", tmp_path / "out"
    output.mkdir()
    write_phantoms(tmp_path / "data", num_cases=8, size=(32, 36, 8), progress=False)
    overlay = json.loads((configs / "multi_gpu_train.json").read_text())
    (tmp_path / "on_cpus.json").write_text(json.dumps(on_cpus(overlay)))
    files = [
        str(path) for path in (configs / "train.json", configs / "multi_gpu_train.json", tmp_path / "on_cpus.json")
    ]
    settings = {
        **SMALL[name],
        "bundle_root": str(BUNDLES / name),
        "dataset_dir": str(tmp_path / "data"),
        "output_dir": str(output),
        "ckpt_dir": str(output / "models"),
        **({"label_dir": str(tmp_path / "data" / "labelsTr")} if name == "weakmedsam_msd_heart" else {}),
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
    command += ["-m", "monai.bundle", "run", "--config_file", str(files)]
    command += [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = (torch.load(output / f"rank_{rank}.pt", weights_only=True) for rank in range(PROCESSES))
    assert first.keys() == second.keys() and all(torch.equal(value, second[key]) for key, value in first.items())
    saved = torch.load(output / "models" / "model.pt", weights_only=True)
    assert saved.keys() == {key.removeprefix("module.") for key in first}
