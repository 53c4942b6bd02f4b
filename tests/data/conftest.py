from pathlib import Path

import pytest
from tiny_dataset import write_tiny_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Made anew for every test, which may spoil it."""
    return write_tiny_dataset(tmp_path / "Task02_Heart")
