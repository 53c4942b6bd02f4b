"""The tutorials run as they stand, block by block, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCKS = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run_page(page, folder):
    """Python blocks share their names; shell blocks run with the Python of this test as `python`."""
    names = {}
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # the package under test, also where it is not installed
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    for language, code in BLOCKS.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)
        else:
            assert language == "sh", language
            done = subprocess.run(
                ["sh", "-euc", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, code + done.stdout[-3000:] + done.stderr[-3000:]


def test_tutorials_are_found():
    assert len(TUTORIALS) == 4
    assert all(len(BLOCKS.findall(page.read_text(encoding="utf-8"))) >= 3 for page in TUTORIALS)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=() if page.stem == "monai_project" else pytest.mark.slow)
        for page in TUTORIALS
    ],
)
def test_tutorial_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path)
