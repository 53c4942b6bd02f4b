from __future__ import annotations

import os

import pytest
import torch

from weakmedsam_ext.bundle import RunKey, differences


@pytest.fixture
def files(tmp_path):
    for name, text in (("data/a.nii", "a"), ("data/b.nii", "b"), ("out/models/model.pt", "m"), ("sam.pth", "s")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (0, 0))
    return tmp_path


def key(files, output="out", inputs=(), **settings):
    return RunKey(files / output, settings, inputs)


def test_equal_settings_and_inputs_have_equal_keys(files):
    inputs = [{"image": str(files / "data" / "a.nii"), "label": None}, [files / "data" / "b.nii", "no file"]]
    one, other = (key(files, inputs=inputs, size=(1, 2), device=torch.device("cpu")) for _ in range(2))
    assert one.digest == other.digest and len(one.digest) == 64 and one.changes(other.record) == ""
    assert set(one.record["inputs"]) == {"data/a.nii", "data/b.nii"}
    assert one.record["settings"] == {"size": [1, 2], "device": "cpu"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files: {"rate": 2}, "rate changed: 1 -> 2"),
        (lambda files: {"sam": str(files / "data/a.nii")}, r"sam changed: sam.pth \(\w{8}\) -> a.nii \(\w{8}\)"),
        (lambda files: {"inputs": [files / "data/a.nii"]}, "1 inputs removed: data/b.nii"),
        (lambda files: {"inputs": [files / "data", files / "sam.pth"]}, "1 inputs added: .*/sam.pth"),
        (lambda files: (files / "data/b.nii").write_text("c") and {}, "1 inputs changed: data/b.nii"),
        (
            lambda files: (files / "sam.pth").write_text("c") and {},
            r"sam changed: sam.pth \(\w{8}\) -> sam.pth \(\w{8}\)",
        ),
    ],
)
def test_what_changed_is_told(files, change, reason):
    base = {"rate": 1, "sam": str(files / "sam.pth"), "inputs": [str(files / "data")]}
    before = key(files, **base)
    before.record  # noqa: B018 files are read here, once
    now = key(files, **{**base, **change(files)})
    assert now.digest != before.digest
    with pytest.raises(ValueError, match=f"^{reason}$"):
        raise ValueError(now.changes(before.record))


def test_a_moved_folder_changes_nothing(files):
    settings = {"weights": str(files / "out/models/model.pt"), "label_dir": str(files / "out")}
    before = key(files, inputs=[files / "out/models/model.pt", files / "data"], **settings)
    before.record  # noqa: B018
    (files / "out").rename(files / "moved")
    (files / "data").rename(files / "elsewhere")
    (files / "elsewhere").rename(files / "data")
    settings = {"weights": str(files / "moved/models/model.pt"), "label_dir": str(files / "moved")}
    now = key(files, "moved", [files / "moved/models/model.pt", files / "data"], **settings)
    assert {**now.record["settings"], "label_dir": None} == {**before.record["settings"], "label_dir": None}
    assert now.record["inputs"] == before.record["inputs"]


def test_equal_numbers_and_names_of_folders_are_no_difference(files, monkeypatch):
    monkeypatch.chdir(files)
    before = key(files, beta=16, method="mean")
    (files / "mean").mkdir()
    assert key(files, beta=16.0, method="mean").digest == before.digest


def test_the_order_of_classes_counts_for_it_is_that_of_channels(files):
    one, other = (key(files, class_map=names) for names in ({"a": 1, "b": 2}, {"b": 2, "a": 1}))
    assert one.digest != other.digest and "class_map changed" in one.changes(other.record)


def test_inputs_of_one_name_are_all_counted(files):
    for patient in "pq":
        (files / patient / "scan").mkdir(parents=True)
        (files / patient / "scan/image.nii").write_text(patient)
    inputs = [files / patient / "scan/image.nii" for patient in "pq"]
    assert key(files, inputs=inputs).digest != key(files, inputs=inputs[1:]).digest
    before = key(files, inputs=inputs)
    before.record  # noqa: B018
    inputs[0].write_text("other")
    assert key(files, inputs=inputs).changes(before.record) == "1 inputs changed: scan/image.nii"


def test_relative_and_absolute_paths_are_the_same(files, monkeypatch):
    monkeypatch.chdir(files)
    one, other = RunKey("out", {}, ["out/models/model.pt"]), RunKey(files / "out", {}, [files / "out/models/model.pt"])
    assert one.digest == other.digest and set(one.record["inputs"]) == {"models/model.pt"}


def test_versions_and_configs_count():
    record = {"package": "1", "config": "a", "settings": {}, "inputs": {}}
    assert differences(record, {**record, "package": "2"}) == "package version changed: 1 -> 2"
    assert differences(record, {**record, "config": "b"}) == "config changed"
    assert differences({**record, "settings": {"a": 1}}, record) == "a changed: 1 -> null"
