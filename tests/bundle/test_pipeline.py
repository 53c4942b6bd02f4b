from __future__ import annotations

import json

import pytest

from weakmedsam_ext.bundle import Pipeline, training_workflow

KEY = {
    "_target_": "weakmedsam_ext.bundle.RunKey",
    "output_dir": "@output_dir",
    "settings": "@settings",
    "inputs": "@inputs",
}


@pytest.fixture
def folder(tmp_path):
    """Two stages that append their setting to a log and write their output; the second reads what the first wrote."""
    (tmp_path / "metadata.json").write_text("{}")
    for name, setting, inputs in (("first", "text", []), ("second", "number", "$@output_dir + '/first'")):
        config = {
            "imports": ["$import pathlib"],
            "bundle_root": ".",
            "output_dir": "out",
            setting: 0,
            "line": f"$'{name} ' + str(@{setting}) + '\\n'",
            "inputs": inputs,
            "settings": {setting: f"@{setting}"},
            "run_key": KEY,
            "run": [
                "$pathlib.Path(@output_dir).mkdir(exist_ok=True)",
                "$pathlib.Path(@output_dir, 'log').open('a').write(@line)",
                f"$pathlib.Path(@output_dir, '{name}').write_text(@line)",
            ],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    return tmp_path


def run(folder, text="a", number=1, output="out", **second):
    stages = [
        {"name": "one", "config": ["first"], "outputs": ["first"]},
        {"name": "two", "config": ["second"], "outputs": ["second"], **second},
    ]
    Pipeline(folder, folder / output, stages, {"text": text, "number": number}).run()
    return (folder / output / "log").read_text().split("\n")[:-1]


def test_stages_run_once_with_the_settings_that_they_declare(folder):
    assert run(folder) == ["first a", "second 1"]
    assert run(folder) == ["first a", "second 1"]
    assert run(folder, settings={"number": 5})[2:] == ["second 5"]


def test_a_changed_setting_runs_its_stage_and_those_that_read_something_else(folder, caplog):
    caplog.set_level("INFO")
    run(folder)
    assert run(folder, number=2)[2:] == ["second 2"]
    assert "[2/2] two: running again: number changed: 1 -> 2" in caplog.text
    assert run(folder, text="b", number=2)[3:] == ["first b", "second 2"]
    assert "[2/2] two: running again: 1 inputs changed: first" in caplog.text


def test_a_stage_that_writes_the_same_again_runs_no_later_one(folder):
    run(folder)
    (folder / "out" / "first").unlink()
    assert run(folder)[2:] == ["first a"]


def test_a_moved_folder_is_still_finished(folder):
    run(folder)
    (folder / "out").rename(folder / "moved")
    assert run(folder, output="moved") == ["first a", "second 1"]


def test_another_version_of_the_package_runs_everything_again(folder, monkeypatch):
    run(folder)
    monkeypatch.setattr("weakmedsam_ext.bundle.run_key.__version__", "99.0")
    assert run(folder)[2:] == ["first a", "second 1"]


def test_another_config_runs_its_stage_again(folder):
    run(folder)
    config = json.loads((folder / "first.json").read_text())
    (folder / "first.json").write_text(json.dumps({**config, "more": 1}))
    assert run(folder)[2:] == ["first a"]


def test_what_is_replaced_stays_until_the_next_time(folder):
    for number in (1, 2, 3):
        run(folder, number=number)
        if number > 1:
            assert (folder / "out/stages/replaced/two/second").read_text() == f"second {number - 1}\n"


def test_a_damaged_record_stands_for_an_unknown_run(folder):
    run(folder)
    (folder / "out/stages/two.json").write_text("{")
    assert run(folder)[2:] == ["second 1"] and (folder / "out/stages/replaced/two/second").exists()


def test_what_a_stage_replaces_is_out_of_its_way_and_weights_are_kept(folder):
    """Before the stage runs: what it does not write again must not stay."""
    stage = {"name": "one", "config": ["first"], "outputs": ["first", "folder", "model.pt"]}
    output = folder / "out"
    for text in "ab":
        Pipeline(folder, output, [stage], {"text": text}).run()
        assert not (output / "folder").exists() and not (output / "model.pt").exists()
        (output / "folder").mkdir()
        (output / "folder" / "stale").touch()
        for name in ("model.pt", "model.json"):
            (output / name).write_text(text)
        assert (output / "first").read_text() == f"first {text}\n"
    assert (output / "model.previous.pt").read_text() == (output / "model.previous.json").read_text() == "a"


def test_what_is_logged_is_appended_to_a_file(folder, caplog):
    caplog.set_level("INFO")
    run(folder)
    run(folder)
    text = (folder / "out" / "logs" / "pipeline.log").read_text()
    assert text.count("[1/2] one: running") == 1 and text.count("[1/2] one: finished before") == 1


def test_the_record_of_an_earlier_version_runs_its_stage_again(folder, caplog):
    caplog.set_level("INFO")
    run(folder)
    (folder / "out" / "stages" / "one.json").write_text(json.dumps({"key": "a", "seconds": 1.0}))
    assert run(folder)[2:] == ["first a"]
    assert "one: running again: package version changed: None -> " in caplog.text


def test_a_stage_says_what_it_took_and_before_it_runs_again_what_it_took_last_time(folder, caplog):
    caplog.set_level("INFO")
    run(folder)
    record = json.loads((folder / "out" / "stages" / "two.json").read_text())
    assert record["usage"]["seconds"] >= 0 and record["usage"]["memory_mb"] > 0 and "last time" not in caplog.text
    assert record["bundle"] == folder.parent.name
    record["usage"] |= {"seconds": 130, "memory_mb": 2345, "disk_mb": 12.4, "gpu_memory_mb": None}
    (folder / "out" / "stages" / "two.json").write_text(json.dumps(record))
    run(folder, number=2)
    assert "[2/2] two: last time it took 2 min, 2.3 GB of memory, 12 MB of disk" in caplog.text


def test_a_missing_output_runs_its_stage_again(folder):
    run(folder)
    (folder / "out" / "second").unlink()
    assert run(folder)[2:] == ["second 1"]


def spoil(folder):
    broken = json.loads((folder / "second.json").read_text())
    broken["run"].append("$pathlib.Path(@output_dir, 'missing').read_text()")
    (folder / "second.json").write_text(json.dumps(broken))


def test_a_stage_that_dies_is_run_again_and_what_was_finished_is_not(folder):
    whole = (folder / "second.json").read_text()
    spoil(folder)
    with pytest.raises(SystemExit, match="error in stage 'two': .*No such file or directory.*missing"):
        run(folder)
    assert "Traceback" in (folder / "out" / "logs" / "errors.log").read_text()
    (folder / "second.json").write_text(whole)
    assert run(folder) == ["first a", "second 1", "second 1"]


def test_debugging_raises_the_error_itself(folder, monkeypatch):
    monkeypatch.setenv("MONAI_DEBUG", "1")
    spoil(folder)
    with pytest.raises(RuntimeError, match="Failed to evaluate"):
        run(folder)


def test_a_function_is_called_when_its_stage_comes(folder):
    def written_by_the_first():
        return (folder / "out" / "first").read_text().strip()

    assert run(folder, settings={"number": written_by_the_first})[1:] == ["second first a"]


def test_disabled_stages_are_left_out(folder):
    assert run(folder, enabled=False) == ["first a"]


def test_wrong_stages_are_refused(folder):
    with pytest.raises(ValueError, match="stages: expected at least one, each with its own name, but got "):
        Pipeline(folder, folder / "out", [{"name": "a"}, {"name": "a"}])
    with pytest.raises(SystemExit, match="stage 'two': second.json: there is no 'nummer'; did you mean 'number'"):
        run(folder, settings={"nummer": 1})


def test_a_stage_may_have_nothing_to_do(folder):
    """A function decides when the stage's turn comes, so it sees what the stages before have written."""
    assert run(folder, enabled=lambda: not (folder / "out" / "first").exists()) == ["first a"]
    assert run(folder, enabled=lambda: (folder / "out" / "first").exists()) == ["first a", "second 1"]


def test_overrides_that_no_config_declares_are_refused(folder):
    with pytest.raises(ValueError, match="first.json: there is no 'txet'; did you mean 'text'"):
        training_workflow(folder, "first.json", txet="b")
    with pytest.raises(ValueError, match="first.json, --settings#txet: there is no 'txet'; did you mean 'text'"):
        training_workflow(folder, "first.json", **{"settings#txet": "b"})
    training_workflow(folder, "first.json", **{"text": "b", "run_key#config": "components take further arguments"})
