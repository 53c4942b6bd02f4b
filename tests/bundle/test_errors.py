from __future__ import annotations

import atexit
import errno
import logging
import os
import sys
import time
from importlib.machinery import ModuleSpec
from multiprocessing.pool import ThreadPool
from types import ModuleType

import pytest

from weakmedsam_ext.bundle import begin_run, user_message
from weakmedsam_ext.bundle.errors import join_workers


def wrapped(error):
    """An error as a config's expression passes it on."""
    try:
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("Failed to evaluate '@study'") from cause
    except RuntimeError as outer:
        return outer


@pytest.mark.parametrize("error", [ValueError("a.json is bad; mend it."), ImportError("a needs b; install it.")])
def test_what_the_user_can_mend_is_told_in_the_words_of_its_cause(error):
    assert user_message(wrapped(error)) == str(error)


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), RuntimeError("c")])
def test_defects_are_no_sentences(error):
    assert user_message(wrapped(error)) is None


def full_disk(*filename):
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *filename)


@pytest.mark.parametrize("wrap", [lambda error: error, wrapped, lambda error: RuntimeError(f"no writer\n{error}\n")])
def test_a_full_disk_names_the_file_and_the_remedy(wrap):
    assert user_message(wrap(full_disk("/out/a.npy"))).startswith("no space is left on the disk for /out/a.npy; free ")
    assert user_message(wrap(full_disk())).startswith("no space is left on the disk; free ")


@pytest.fixture
def command_line(monkeypatch):
    """As if this process had been started by `python -m monai.bundle run`."""
    program = ModuleType("__main__")
    program.__spec__ = ModuleSpec("monai.bundle.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", program)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run"])
    monkeypatch.delenv("MONAI_DEBUG", raising=False)
    yield
    logging.setLogRecordFactory(factory)
    atexit.unregister(join_workers)


@pytest.mark.parametrize("error", [OSError("a"), ValueError("b"), KeyboardInterrupt()])
def test_logs_of_the_command_line_hold_no_traceback(command_line, caplog, tmp_path, error):
    begin_run(tmp_path)
    try:
        raise error
    except BaseException:
        logging.getLogger("engine").exception("Exception")
    assert "Exception" in caplog.text and "Traceback" not in caplog.text


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/deeper"])
def test_a_file_in_the_way_of_the_output_is_told_first(command_line, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="output_dir: .*/file is a file, not a folder; give another folder"):
        begin_run(tmp_path / name)


@pytest.mark.parametrize("output_dir", [2024, 1.5, True])
def test_an_output_that_was_read_as_a_number(command_line, output_dir):
    with pytest.raises(ValueError, match=f"output_dir: {output_dir} was read as a number"):
        begin_run(output_dir)


def test_threads_of_a_pool_end_first():
    done = []
    pool = ThreadPool(2)
    pool.map_async(lambda n: (time.sleep(0.2), done.append(n)), [1, 2])
    time.sleep(0.05)
    pool.terminate()
    join_workers()
    assert sorted(done) == [1, 2]


def test_the_command_line_prints_the_sentence_and_logs_the_traceback(command_line, capsys, tmp_path):
    begin_run(tmp_path)
    error = wrapped(ValueError("a.json is bad; mend it."))
    sys.excepthook(type(error), error, error.__traceback__)
    assert capsys.readouterr().err == "error: a.json is bad; mend it.\n"
    assert "Traceback" in (tmp_path / "logs" / "errors.log").read_text()


def test_the_command_line_keeps_the_traceback_of_a_defect(command_line, capsys, tmp_path):
    begin_run(tmp_path)
    error = wrapped(KeyError("a"))
    sys.excepthook(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_debugging_keeps_every_traceback(command_line, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MONAI_DEBUG", "1")
    begin_run(tmp_path)
    error = wrapped(ValueError("a.json is bad; mend it."))
    sys.excepthook(type(error), error, error.__traceback__)
    assert "Traceback" in capsys.readouterr().err


def test_other_programs_keep_their_hook():
    before = sys.excepthook
    begin_run("output")
    assert sys.excepthook is before
