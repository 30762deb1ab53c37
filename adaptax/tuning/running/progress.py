"""Progress: how much of a run is done, the best so far, and the time left.

On a terminal, a live bar that is gone at the end; elsewhere, or without rich, a line
now and then. It goes to the standard error, and never ends a run that it cannot tell
about. In a run of several processes, only the first one shows it.
"""

import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import jax

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FRAMES = 0.1


class Progress:
    """A display to be used in a `with` statement."""

    def __init__(self, enabled: bool, title: str, total: int):
        """Show nothing yet.

        Args:
            enabled: `False` shows nothing at all.
            title: What is being done.
            total: How much there is to do, in the units of `update`.
        """
        shown = enabled and sys.stderr is not None and jax.process_index() == 0
        self.title, self.total, self._shown = title, total, shown
        self._bar: Any = _bar() if shown else None
        between = (
            _SECONDS_BETWEEN_LINES if self._bar is None else _SECONDS_BETWEEN_FRAMES
        )
        self._between = between
        self._done, self._best = 0, ""
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> "Progress":
        """Begin to show."""
        self._start = self._last = time.monotonic()
        if self._bar is not None:
            self._bar.add_task(self.title, total=self.total, note="")
            with suppress(OSError, ValueError):
                self._bar.start()
        return self

    def update(self, done: int, best: str = "") -> None:
        """Tell how much is done.

        Args:
            done: Of the total. What was done before the first call, as when a run is
                resumed, does not count for the time left.
            best: The best so far, in words.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        self._done, self._best = done, best
        if not self._shown or now - self._last < self._between:
            return
        self._last = now
        note = self._note(self._time_left(now))
        if self._bar is None:
            self._say(f"{self.title}: {note}")
            return
        with suppress(OSError, ValueError):
            self._bar.update(0, completed=done, note=note, refresh=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the display, and leave the terminal as it was."""
        if self._bar is not None:
            with suppress(OSError, ValueError):
                self._bar.stop()
        elif self._shown:
            taken = _in_words(time.monotonic() - self._start)
            how = "" if kind is None else "stopped at "
            self._say(f"{self.title}: {how}{self._note(f'in {taken}')}")

    def _time_left(self, now: float) -> str:
        began, before = self._first or (now, self._done)
        done = self._done - before
        if done <= 0:
            return ""
        left = (now - began) * max(0, self.total - self._done) / done
        return f"{_in_words(left)} left"

    def _note(self, times: str) -> str:
        best = self._best and f"best {self._best}"
        return ", ".join(filter(None, [f"{self._done}/{self.total}", best, times]))

    def _say(self, line: str) -> None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


def _bar() -> Any:
    """Return a live bar, or `None` where there is no rich or no terminal to show it."""
    try:
        from rich import progress
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=True)
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        return None
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
        auto_refresh=False,  # no thread beside those that train
    )


def _in_words(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
