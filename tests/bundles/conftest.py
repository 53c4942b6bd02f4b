from __future__ import annotations

import pytest

from weakmedsam_ext.data import write_phantoms


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Eight volumes of a few voxels; a test that spoils them makes a copy."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, num_cases=8, size=(32, 36, 8), progress=False)
    return folder
