"""The README's examples run, its commands name files that exist, and every target of the Makefile has its lines."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from weakmedsam_ext import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- example -->\n```python\n(.*?)```", README, re.DOTALL)


def test_examples_are_found():
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example):
    exec(compile(example, "README.md", "exec"), {})


def test_files_that_the_readme_names_exist():
    named = re.findall(r"(?:bundles|constraints)[\w./-]*\.(?:json|conf|txt|png|md)", README)
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []


def command(name, folder=ROOT):
    return subprocess.run(["sh", str(folder / ".ci/command"), name], capture_output=True, text=True, check=False)


def test_every_target_of_the_makefile_has_its_lines():
    documents = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^<!-- command: (\w+) -->\n```sh\n(.*?)^```$", documents, re.DOTALL | re.MULTILINE))
    targets = re.search(r"^COMMANDS = (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert sorted(targets) == sorted(blocks) and len(targets) == 5
    assert all(block.startswith("python3 -m venv .venv\n") for block in blocks.values())


def test_a_command_runs_the_lines_of_its_block_and_stops_at_an_error(tmp_path):
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/command").write_text((ROOT / ".ci/command").read_text())
    block = "<!-- command: {} -->\n```sh\n{}\n```\n"
    (tmp_path / "README.md").write_text(
        block.format("one", "echo first \\\n    second") + block.format("two", "echo no")
    )
    (tmp_path / "CONTRIBUTING.md").write_text(block.format("three", "cd nowhere\necho reached"))
    assert command("one", tmp_path).stdout == "first second\n"
    failed = command("three", tmp_path)
    assert failed.returncode != 0 and failed.stdout == ""


def test_an_unknown_command_is_refused():
    done = command("nonsense")
    assert done.returncode == 2 and "no command 'nonsense'" in done.stderr


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and len(citation["references"]) == 3
