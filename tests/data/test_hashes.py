"""Hashes of files that are remembered by size and modification time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from weakmedsam_ext.data import HashCache, content_hash, hashes

OLD = 1_600_000_000_000_000_000  # ns


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that are really read, from an empty memory on."""
    read: list[Path] = []
    real = hashes.file_hash
    monkeypatch.setattr(hashes, "file_hash", lambda path: read.append(Path(path)) or real(path))
    monkeypatch.setattr(hashes._MEMORY, "_known", {})
    return read


def write(path: Path, content: bytes, time: int = OLD) -> Path:
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    return path


def test_hash_is_sha256_of_the_content(tmp_path: Path) -> None:
    assert content_hash(write(tmp_path / "a", b"abc")) == hashlib.sha256(b"abc").hexdigest()[:32]


def test_unchanged_file_is_read_once(tmp_path: Path, empty_memory: list[Path]) -> None:
    file = write(tmp_path / "a", b"abc")
    assert content_hash(file) == content_hash(str(file))
    assert len(empty_memory) == 1


@pytest.mark.parametrize(("content", "time"), [(b"abcd", OLD), (b"abd", OLD + 1)], ids=["size", "time"])
def test_file_of_another_size_or_time_is_read_again(tmp_path: Path, content: bytes, time: int) -> None:
    cache = tmp_path / "hashes.json"
    HashCache(cache)(write(tmp_path / "a", b"abc"))
    changed = write(tmp_path / "a", content, time)
    assert HashCache(cache)(changed) == content_hash(changed) == hashlib.sha256(content).hexdigest()[:32]


def test_file_written_just_now_is_not_remembered(tmp_path: Path, empty_memory: list[Path]) -> None:
    """Within the granularity of the clock of a disk, a file can change and keep its time."""
    (tmp_path / "a").write_bytes(b"abc")
    cache = HashCache(tmp_path / "hashes.json")
    assert cache(tmp_path / "a") == cache(tmp_path / "a")
    assert len(empty_memory) == 2
    assert not (tmp_path / "hashes.json").exists()


def test_cache_file_serves_the_next_process(
    tmp_path: Path, empty_memory: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = write(tmp_path / "a", b"abc"), tmp_path / "store" / "hashes.json"
    first = HashCache(cache)(file)
    monkeypatch.setattr(hashes._MEMORY, "_known", {})
    assert HashCache(cache)(file) == first
    assert len(empty_memory) == 1


def test_two_caches_keep_what_the_other_wrote(tmp_path: Path) -> None:
    path = tmp_path / "hashes.json"
    one, two = HashCache(path), HashCache(path)
    one(write(tmp_path / "a", b"a"))
    two(write(tmp_path / "b", b"b"))
    assert sorted(Path(name).name for name in json.loads(path.read_text())) == ["a", "b"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 3}'])
def test_damaged_cache_file_is_replaced(tmp_path: Path, content: str) -> None:
    file, cache = write(tmp_path / "a", b"abc"), tmp_path / "hashes.json"
    cache.write_text(content)
    assert HashCache(cache)(file) == content_hash(file)
    assert list(json.loads(cache.read_text())) == [str(file)]


def test_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    file = write(tmp_path / "a", b"abc")
    assert HashCache(file / "hashes.json")(file) == content_hash(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.nii.gz does not exist"):
        content_hash(tmp_path / "absent.nii.gz")
