from __future__ import annotations

import json

import pytest

from weakmedsam_ext.bundle import Pipeline


@pytest.fixture
def folder(tmp_path):
    """Two stages that append their setting to a log and write their output."""
    (tmp_path / "metadata.json").write_text("{}")
    for name, setting in (("first", "text"), ("second", "number")):
        config = {
            "imports": ["$import pathlib"],
            "bundle_root": ".",
            "output_dir": "out",
            setting: 0,
            "line": f"$'{name} ' + str(@{setting}) + '\\n'",
            "run": [
                "$pathlib.Path(@output_dir).mkdir(exist_ok=True)",
                "$pathlib.Path(@output_dir, 'log').open('a').write(@line)",
                f"$pathlib.Path(@output_dir, '{name}').write_text('done')",
            ],
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    return tmp_path


def run(folder, text="a", number=1, **second):
    stages = [
        {"name": "one", "config": "first.json", "outputs": ["first"]},
        {"name": "two", "config": "second.json", "outputs": ["second"], **second},
    ]
    Pipeline(folder, folder, folder / "out", stages, {"text": text, "number": number}).run()
    return (folder / "out" / "log").read_text().split("\n")[:-1]


def test_stages_run_once_with_the_settings_that_they_declare(folder):
    assert run(folder) == ["first a", "second 1"]
    assert run(folder) == ["first a", "second 1"]
    assert run(folder, settings={"number": 5})[2:] == ["second 5"]


def test_a_changed_setting_runs_its_stage_and_the_later_ones(folder):
    run(folder)
    assert run(folder, number=2)[2:] == ["second 2"]
    assert run(folder, text="b", number=2)[3:] == ["first b", "second 2"]


def test_a_moved_folder_is_still_finished(folder):
    """Settings that name files in it are no other settings."""
    output = folder / "out"
    for _ in range(2):
        stage = {"name": "one", "config": "first.json", "outputs": ["first"], "settings": {"text": f"{output}/models"}}
        Pipeline(folder, folder, output, [stage]).run()
        assert (output / "log").read_text() == f"first {folder}/out/models\n"
        if output.name == "out":
            output = output.rename(folder / "moved")


def test_what_is_logged_is_appended_to_a_file(folder, caplog):
    caplog.set_level("INFO")
    run(folder)
    run(folder)
    text = (folder / "out" / "logs" / "pipeline.log").read_text()
    assert text.count("[1/2] one: running") == 1 and text.count("[1/2] one: finished before") == 1


def test_a_missing_output_runs_its_stage_again(folder):
    run(folder)
    (folder / "out" / "second").unlink()
    assert run(folder)[2:] == ["second 1"]


def test_a_stage_that_dies_is_run_again_and_what_was_finished_is_not(folder):
    broken = json.loads((folder / "second.json").read_text())
    whole = (folder / "second.json").read_text()
    broken["run"].append("$pathlib.Path(@output_dir, 'missing').read_text()")
    (folder / "second.json").write_text(json.dumps(broken))
    with pytest.raises(SystemExit, match="error in stage 'two': .*No such file or directory.*missing"):
        run(folder)
    (folder / "second.json").write_text(whole)
    assert run(folder) == ["first a", "second 1", "second 1"]


def test_a_function_is_called_when_its_stage_comes(folder):
    def written_by_the_first():
        return (folder / "out" / "first").read_text()

    assert run(folder, settings={"number": written_by_the_first})[1:] == ["second done"]


def test_disabled_stages_are_left_out(folder):
    assert run(folder, enabled=False) == ["first a"]


def test_wrong_stages_are_refused(folder):
    with pytest.raises(ValueError, match="stages: expected at least one, each with its own name, but got "):
        Pipeline(folder, folder, folder / "out", [{"name": "a"}, {"name": "a"}])
    with pytest.raises(SystemExit, match=r"stage 'two': second.json does not declare \['colour'\]"):
        run(folder, settings={"colour": 1})


def test_a_stage_may_have_nothing_to_do(folder):
    """A function decides when the stage's turn comes, so it sees what the stages before have written."""
    assert run(folder, enabled=lambda: not (folder / "out" / "first").exists()) == ["first a"]
    assert run(folder, enabled=lambda: (folder / "out" / "first").exists()) == ["first a", "second 1"]
