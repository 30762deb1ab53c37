"""The progress is shown where somebody looks, seldom elsewhere, and ends no run."""

import os
import sys
import threading

import jax
import pytest

from adaptax.tuning.running import progress
from adaptax.tuning.running.progress import Progress

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the terminal's cursor
ERASE = "\x1b[2K"  # the line that the cursor is in


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def terminal(monkeypatch):
    """Return a terminal to write to, and a function that returns what was written."""
    output, slave = pytest.importorskip("pty").openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    end = "<end>"  # it comes a while after it was written

    with os.fdopen(slave, "w", encoding="utf-8") as file:

        def read():
            print(end, end="", file=file, flush=True)
            found = b""
            while not found.endswith(end.encode()):
                found += os.read(output, 10**6)
            return found.decode().removesuffix(end)

        yield file, read
    os.close(output)


def test_lines_come_at_most_every_10_seconds_and_one_at_the_end(clock, capsys):
    with Progress(True, "sweep", 100) as shown:
        for done in range(0, 60, 2):
            shown.update(done, "0.1 [x]" if done else "")
            clock[0] += 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "sweep: 20/100, best 0.1 [x], 0:00:40 left",
        "sweep: 40/100, best 0.1 [x], 0:00:30 left",
        "sweep: 58/100, best 0.1 [x], in 0:00:30",
    ]


def test_what_was_done_before_a_run_was_resumed_is_not_its_pace(clock, capsys):
    with Progress(True, "sweep", 1000) as shown:
        shown.update(900)
        clock[0] += 10
        shown.update(950)
        assert capsys.readouterr().err == "sweep: 950/1000, 0:00:10 left\n"


def test_no_time_is_promised_before_anything_is_done(clock, capsys):
    with Progress(True, "sweep", 0) as shown:
        clock[0] += 11
        shown.update(0)
    assert capsys.readouterr().err == "sweep: 0/0\nsweep: 0/0, in 0:00:11\n"


def test_an_exception_passes_and_the_last_line_says_where_it_stopped(clock, capsys):
    def run():
        with Progress(True, "sweep", 9) as shown:
            shown.update(4)
            clock[0] += 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert capsys.readouterr().err == "sweep: stopped at 4/9, in 0:00:02\n"


@pytest.mark.parametrize("silent", ["disabled", "other process", "no standard error"])
def test_nothing_is_shown_where_nobody_asked(silent, clock, capsys, monkeypatch):
    if silent == "other process":
        monkeypatch.setattr(jax, "process_index", lambda: 1)
    if silent == "no standard error":
        monkeypatch.setattr(sys, "stderr", None)
    with Progress(silent != "disabled", "sweep", 9) as shown:
        clock[0] += 11
        shown.update(4, "0.1")
    monkeypatch.undo()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar_that_is_gone_at_the_end(clock, terminal, monkeypatch):
    file, read = terminal
    monkeypatch.setattr(sys, "stderr", file)
    threads = threading.active_count()
    with Progress(True, "sweep [bold]", 100) as shown:
        assert threading.active_count() == threads
        shown.update(0)
        clock[0] += 1
        shown.update(50, "0.1 at [1e-3]")
        during = read()
        clock[0] += 0.05
        shown.update(51)
        soon = read()
    after = read()
    assert sys.stderr is file
    assert "sweep [bold]" in during
    assert "50/100, best 0.1 at [1e-3], 0:00:01 left" in during
    assert "━" in during
    assert HIDE in during
    assert SHOW not in during
    assert soon == ""  # too soon for another frame
    assert SHOW in after
    assert after.endswith(ERASE)


def test_an_exception_leaves_the_terminal_in_order(clock, terminal, monkeypatch):
    file, read = terminal
    monkeypatch.setattr(sys, "stderr", file)
    stdout = sys.stdout

    def run():
        with Progress(True, "sweep", 9) as shown:
            clock[0] += 1
            shown.update(4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    output = read()
    assert output.index(HIDE) < output.index(SHOW)
    assert output.endswith(ERASE)
    assert (sys.stdout, sys.stderr) == (stdout, file)


@pytest.mark.parametrize("lack", ["rich", "abilities"])
def test_lines_come_on_a_terminal_that_cannot_show_a_bar(
    lack, clock, terminal, monkeypatch
):
    file, read = terminal
    monkeypatch.setattr(sys, "stderr", file)
    if lack == "rich":
        monkeypatch.setitem(sys.modules, "rich", None)
    else:
        monkeypatch.setenv("TERM", "dumb")
    with Progress(True, "sweep", 9) as shown:
        clock[0] += 11
        shown.update(4)
    assert read().splitlines() == ["sweep: 4/9", "sweep: 4/9, in 0:00:11"]


def test_a_run_goes_on_when_its_standard_error_is_gone(clock, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="ascii") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with Progress(True, "sweep", 9) as shown:
            clock[0] += 11
            shown.update(4, "η")  # cannot be encoded
            clock[0] += 11
            shown.update(4)
            finished = True
        monkeypatch.undo()
        with pytest.raises(BrokenPipeError):
            gone.close()
    assert finished
