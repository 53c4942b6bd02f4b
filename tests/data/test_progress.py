from __future__ import annotations

import logging

import pytest

from weakmedsam_ext.data import RemainingTime, duration, show_progress


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_what_is_left_follows_from_the_measured_speed():
    clock = Clock()
    left = RemainingTime(45, clock)
    clock.now = 2.0
    assert left.message(9, "cases") is None  # too early to know
    clock.now = 6.0
    assert left.message(1, "cases") is None  # one case is not enough
    clock.now = 6.0
    assert left.message(12, "cases") == "12 of 45 cases, about 16 s to go"
    clock.now = 7.0
    assert left.message(14, "cases") is None  # told just now
    clock.now = 400.0
    assert left.message(20, "cases") == "20 of 45 cases, about 8 min to go"


def test_a_moment_is_not_worth_a_line():
    clock = Clock()
    left = RemainingTime(10, clock)
    clock.now = 8.0
    assert left.message(9, "cases") is None


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (3540, "59 min"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_log_gets_no_bar(capsys, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("weakmedsam_ext.data.progress.MEASURED", 0.0)
    monkeypatch.setattr("weakmedsam_ext.data.progress.LEAST_ROUNDS", 1)
    monkeypatch.setattr("weakmedsam_ext.data.progress.WORTH_A_LINE", 0.0)
    assert list(show_progress([1, 2, 3], "check", "case")) == [1, 2, 3]
    assert [record.getMessage()[:20] for record in caplog.records] == ["check: 1 of 3 cases,"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("weakmedsam_ext.data.progress.on_terminal", lambda: True)
    assert list(show_progress(iter("abc"), "check", "case", total=3)) == ["a", "b", "c"]
    assert "check: 100%" in capsys.readouterr().err and not caplog.records
    assert list(show_progress("ab", "check", "case", enabled=False)) == ["a", "b"]
    assert capsys.readouterr().err == ""
