"""Interruptions at a chosen moment, as Ctrl-C would make them."""

from adaptax.tuning.running.execution import Population
from adaptax.tuning.storage.checkpoints import Checkpoints


class Stopped(Exception):
    """What interrupts a tool in the tests."""


def stop_after(calls, monkeypatch):
    """Let training stop after some calls."""
    advance, made = Population.advance, []

    def advance_or_stop(self, steps):
        made.append(steps)
        if len(made) > calls:
            raise Stopped
        return advance(self, steps)

    monkeypatch.setattr(Population, "advance", advance_or_stop)


def save_always(monkeypatch):
    """Save after every call, whose number of steps is 1, 8, 64, … on any machine."""
    monkeypatch.setattr("adaptax.tuning.running.execution._SECONDS_PER_CALL", 1e9)
    monkeypatch.setattr(Checkpoints, "due", lambda _: True)


def check_resuming(run, calls, monkeypatch, folder):
    """Interrupt `run(checkpoint=)` after some calls, resume it, and give the result."""
    save_always(monkeypatch)
    with monkeypatch.context() as patched:
        stop_after(calls, patched)
        try:
            run(checkpoint=folder)
        except Stopped:
            pass
        else:
            raise AssertionError("it was not interrupted")
    resumed = run(checkpoint=folder)
    assert resumed.about["resumed"]
    return resumed
