from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

# tiny networks wait for each other's threads longer than they compute; processes that tests start inherit this
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

TESTS = Path(__file__).parent


class Golden(NamedTuple):
    """A tiny network computed with the original implementation: constructor arguments, inputs, outputs, weights."""

    config: dict
    inputs: dict
    outputs: dict
    state: dict


def read_golden(name: str) -> Golden:
    with safe_open(TESTS / "golden" / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}
        config = json.loads(file.metadata()["config"])
    parts = [
        {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in ("in.", "out.", "state.")
    ]
    return Golden(config, *parts)


@pytest.fixture(scope="session")
def golden():
    return read_golden


@pytest.fixture(scope="session")
def manifest():
    """Tensor names and shapes of a published checkpoint."""
    return lambda name: json.loads((TESTS / "manifests" / f"{name}.json").read_text())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
