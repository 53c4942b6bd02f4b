"""The README's examples run, and its commands name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
