"""The report at the end of a pipeline, and by its command."""

from __future__ import annotations

import shutil

import heart_runs
import pytest
import semisam_runs
from test_stale_results import WEAK, stages_run

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.data import write_phantoms

pytestmark = pytest.mark.slow  # whole pipelines

LA = "semisam_la2018"
SETTINGS = {"method": "supervised", "labelled": 2, "controls": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_phantoms(folder / "data", num_cases=6, size=(32, 36, 8), progress=False)
    semisam_runs.run(LA, folder / "data", folder / "run", **SETTINGS)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def rerun(run, caplog):
    return stages_run(lambda: semisam_runs.run(LA, run / "data", run / "run", **SETTINGS), caplog)


def above_settings(page):
    """A page without its settings, which name folders that have moved."""
    return page.split("<summary>Settings")[0]


def test_it_is_written_once_and_again_when_what_it_shows_has_changed(run, caplog):
    page = run / "run" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "from the masks of 2 cases and from 0 cases without a mask" in text and "best: heart_" in text
    assert rerun(run, caplog) == {}
    page.unlink()
    rerun(run, caplog)
    assert above_settings(page.read_text(encoding="utf-8")) == above_settings(text)
    table = run / "run" / "logs" / "train.csv"
    table.write_text(table.read_text().replace("\n1,", "\n1,9"))
    assert rerun(run, caplog) == {"report": "1 inputs changed: logs/train.csv"}
    assert above_settings(page.read_text(encoding="utf-8")) != above_settings(text)


def test_the_command_writes_the_same_page(run, capsys):
    page = run / "run" / "report.html"
    written = page.read_text(encoding="utf-8")
    page.unlink()
    where = ["--run", str(run / "run"), "--dataset_dir", str(run / "data")]
    assert main(["report", *where]) == 0
    assert capsys.readouterr().out.strip().endswith(f"wrote {page}")
    assert above_settings(page.read_text(encoding="utf-8")) == above_settings(written)
    assert main(["report", "--run", str(run)]) == 1
    assert "settings.json does not exist; give the output_dir of a pipeline" in capsys.readouterr().err


def test_data_that_are_gone_are_named(run, capsys):
    shutil.rmtree(run / "data")
    assert main(["report", "--run", str(run / "run"), "--dataset_dir", str(run / "data")]) == 1
    assert str(run / "data") in capsys.readouterr().err


def test_a_pipeline_needs_no_matplotlib(phantoms, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("weakmedsam_ext.handlers.pyplot.optional_import", lambda name: (None, False))
    heart_runs.run(phantoms, tmp_path / "run", **WEAK)
    remedy = 'figures need matplotlib; run `pip install "weakmedsam-ext[report]"`; they are left out'
    assert remedy in caplog.text and not (tmp_path / "run" / "figures").exists()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "“left atrium”" in page and "best: heart_" in page and "CAM alone" in page
