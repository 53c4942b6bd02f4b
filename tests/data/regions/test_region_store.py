from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from weakmedsam_ext.data import ReadRegionsd, build_region_store, build_slice_store, region_hierarchy, write_nifti


@pytest.fixture
def squares():
    """A dark and a bright half with a small square in one of them."""
    image = np.zeros((48, 48), np.float32)
    image[:, 24:] = 0.9
    image[10:20, 6:16] = 0.45
    return image


def test_store_is_computed_once_and_read_per_slice(squares, tmp_path):
    volume = np.stack([squares, squares.T, squares[::-1]], axis=-1)
    write_nifti(volume, np.eye(4), tmp_path / "a.nii.gz")
    cases = [{"case": "a", "image": str(tmp_path / "a.nii.gz")}]
    slices = build_slice_store(cases, tmp_path / "slices", img_size=48, content_threshold=None, progress=False)
    build_region_store(slices, tmp_path / "regions", progress=False)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "regions").glob("*.npy")}
    again = build_region_store(slices, tmp_path / "regions", progress=False)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "regions").glob("*.npy")} and len(files) == 1
    item = ReadRegionsd(again)({"case": "a", "slice": 1, "image": None})
    expected = region_hierarchy(slices["a"][1])
    assert torch.equal(item["label"], torch.from_numpy(expected.astype(np.int32)))


def test_processes_find_the_same_regions(squares, tmp_path):
    cases = []
    for name, image in {"a": squares, "b": squares.T, "c": squares[::-1]}.items():
        write_nifti(np.stack([image, 1 - image], axis=-1), np.eye(4), tmp_path / f"{name}.nii.gz")
        cases.append({"case": name, "image": str(tmp_path / f"{name}.nii.gz")})
    slices = build_slice_store(cases, tmp_path / "slices", img_size=48, progress=False)
    one = build_region_store(slices, tmp_path / "one", progress=False)
    two = build_region_store(slices, tmp_path / "two", progress=False, num_workers=2)
    assert one.keys == two.keys
    for case in slices.cases:
        np.testing.assert_array_equal(one[case], two[case])


NAME_OF_CASE = """
def compute(case, path):
    path.write_text(case)
"""
KILLED = """
import os, signal
from pathlib import Path
from name_of_case import compute
from weakmedsam_ext.data.regions.worker_pool import compute_cases

done = compute_cases(compute, {case: Path(case) for case in "abcd"}, 2)
print([next(done) for _ in "abcd"])  # now they wait for work
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_the_one_that_is_killed(tmp_path):
    """Its program, which has no main guard, runs once: workers do not import it."""
    (tmp_path / "name_of_case.py").write_text(NAME_OF_CASE)
    (tmp_path / "killed.py").write_text(KILLED)
    # its output ends when the last process that may write to it does
    done = subprocess.run(
        [sys.executable, "-u", "killed.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.count("\n") == 1 and all((tmp_path / case).read_text() == case for case in "abcd")


def test_other_settings_have_other_keys(squares, tmp_path):
    write_nifti(squares[..., None], np.eye(4), tmp_path / "a.nii.gz")
    cases = [{"case": "a", "image": str(tmp_path / "a.nii.gz")}]
    slices = build_slice_store(cases, tmp_path / "slices", img_size=48, progress=False)
    settings = [
        {},
        {"scales": (50,)},
        {"smoothings": (1,)},
        {"min_size": 0.01},
        {"method": "slic"},
        {"method": "mixed"},
    ]
    stores = [build_region_store(slices, tmp_path / "regions", progress=False, **one) for one in settings]
    assert len({store.keys["a"] for store in stores}) == 6
    assert [len(store["a"][0]) for store in stores] == [9, 3, 3, 9, 3, 15]
    named = build_region_store(slices, tmp_path / "regions", (50, 75, 110), smoothings=(0.8, 1.2, 1.6), progress=False)
    assert named.keys == stores[0].keys


def test_wrong_settings_and_unknown_cases_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"scales: expected positive numbers, but got \(\)"):
        build_region_store(None, tmp_path, scales=())
    write_nifti(np.random.default_rng(0).random((16, 16, 2), dtype=np.float32), np.eye(4), tmp_path / "a.nii.gz")
    cases = [{"case": "a", "image": str(tmp_path / "a.nii.gz")}]
    slices = build_slice_store(cases, tmp_path / "slices", img_size=16, progress=False)
    with pytest.raises(KeyError, match="case 'b' is not in the region store"):
        build_region_store(slices, tmp_path / "regions", progress=False)["b"]
