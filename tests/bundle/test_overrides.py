from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from weakmedsam_ext.bundle import RunKey, begin_run


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """As if this process had been started by `python -m monai.bundle run` with two configs and some arguments."""
    (tmp_path / "train.json").write_text(json.dumps({"epochs": 3, "train": {"trainer": {"_target_": "A", "a": 1}}}))
    (tmp_path / "more.json").write_text(json.dumps({"rate": 1}))
    program = ModuleType("__main__")
    program.__spec__ = ModuleSpec("monai.bundle.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", program)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)

    def begin(*arguments, files=f"['{tmp_path}/train.json','{tmp_path}/more.json']"):
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", "--config_file", files, *arguments])
        begin_run(tmp_path / "out")

    return begin


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--epochs", "4", "--rate=2"),
        ("--train#trainer#a", "2", "--train::trainer::b", "3"),
        ("--logging_file", "a.conf", "--meta_file=metadata.json", "--workflow_type", "train"),
        ("--rate", "-1"),
    ],
)
def test_what_is_declared_is_taken(typed, arguments):
    typed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epoch", "4"), "train.json and more.json: there is no 'epoch'; did you mean 'epochs'"),
        (("--raet=2",), "there is no 'raet'; did you mean 'rate'"),
        (("--zzz", "1"), "there is no 'zzz'; expected one of epochs, rate, train"),
        (("--train#trainr#a", "2"), "--train#trainr: there is no 'trainr'; did you mean 'trainer'"),
        (("--train#traner", "2"), "--train#traner: there is no 'traner'; did you mean 'trainer'"),
        (("-epoch", "4"), "there is no 'epoch'; did you mean 'epochs'"),
        (("--epochs#most", "4"), "there is nothing below 'epochs' to set"),
        (("--fold", "-1"), "there is no 'fold'"),
    ],
)
def test_what_is_not_declared_is_refused_with_the_nearest_name(typed, arguments, message):
    with pytest.raises(ValueError, match=message):
        typed(*arguments)


def test_arguments_in_a_file_are_checked_too(typed, tmp_path):
    (tmp_path / "args.json").write_text(json.dumps({"config_file": [str(tmp_path / "train.json")], "epoch": 3}))
    with pytest.raises(ValueError, match="there is no 'epoch'; did you mean 'epochs'"):
        typed("--args_file", str(tmp_path / "args.json"), files=str(tmp_path / "train.json"))


def test_a_tilde_that_nobody_expands_is_refused(typed, monkeypatch):
    typed()
    with pytest.raises(ValueError, match="output_dir: ~ is not expanded here, this would be a folder named ~"):
        begin_run("~/run")


def test_names_with_commas_are_files_too(typed, tmp_path):
    files = f"{tmp_path}/train.json,{tmp_path}/more.json"
    typed("--rate", "3", files=files)
    with pytest.raises(ValueError, match="there is no 'raet'"):
        typed("--raet", "3", files=files)


def test_overrides_in_the_depth_of_a_config_are_part_of_the_key(typed, tmp_path):
    """So are those of components at its top; settings are known to the key anyway, and others have no effect."""
    keys = []
    changes = (("--train#trainer#a", "2"), ("--train#trainer#a", "3"), ("--train", "{'a': 1}"))
    for arguments in ((), *changes, ("--epochs", "5")):
        typed(*arguments)
        keys.append(RunKey(tmp_path, {"epochs": 3}).digest)
    assert len(set(keys[:4])) == 4 and keys[4] == keys[0]


def test_other_programs_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--config_file", "none.json", "--nothing", "1"])
    begin_run(tmp_path)
    assert RunKey(tmp_path).record["config"] is None
