"""A program that reads a bundle's config needs no main guard: what it starts in other processes is not the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BUNDLES = Path(__file__).parents[2] / "bundles"
PROGRAM = """
import sys
from pathlib import Path
from monai.bundle import ConfigParser, create_workflow

print("started")
bundle, data, output, how = sys.argv[1:]
settings = {
    "bundle_root": bundle, "dataset_dir": data, "output_dir": output, "ckpt_dir": output, "device": "cpu",
    "num_folds": 4, "num_test": 2, "epochs": 1, "batch_size": 2, "region_workers": 2,
    "img_size": 32, "num_clicks": 2, "num_rounds": 1,
}
if how == "parser":
    parser = ConfigParser(ConfigParser.load_config_file(bundle + "/configs/train.json"))
    parser.update(settings)
    trainer = parser.get_parsed_content("train::trainer")
else:
    config = bundle + "/configs/train.json"
    workflow = create_workflow(config_file=config, workflow_type="train", logging_file=False, **settings)
    workflow.initialize()
    assert workflow.check_properties() == []
    trainer = workflow.trainer
assert not (Path(output) / "regions").exists()
trainer.run()
print("trained", trainer.state.epoch, len(list((Path(output) / "regions").glob("*.npy"))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["parser", "workflow"])
def test_it_trains(how, phantoms, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [str(BUNDLES / "promptable_pretrain_2d"), str(phantoms), str(tmp_path / "output"), how]
    command = [sys.executable, "program.py", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    said = [line for line in done.stdout.splitlines() if line.startswith(("started", "trained"))]
    assert said == ["started", "trained 1 6"]
