"""Progress of a run: the part done, the best so far, and the time left.

On a terminal it is a live bar that disappears at the end; elsewhere, or without rich, a
line from time to time. It is written to standard error, and an error in writing does
not end the run. In a run of several processes, only the first one shows it.
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
    """A progress display, used as a context manager."""

    def __init__(self, enabled: bool, title: str, total: int):
        """Prepare the display.

        Args:
            enabled: Whether to show anything.
            title: The title.
            total: The amount of work, in the units of `update`.
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
        """Start the display."""
        self._start = self._last = time.monotonic()
        if self._bar is not None:
            self._bar.add_task(self.title, total=self.total, note="")
            with suppress(OSError, ValueError):
                self._bar.start()
        return self

    def update(self, done: int, best: str = "") -> None:
        """Update the display.

        Args:
            done: The amount done. The amount at the first call, as in a resumed run,
                does not count for the time left.
            best: The best so far, as text.
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
        """End the display, and restore the terminal."""
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
    """Return a live bar; `None` without rich or a terminal."""
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
        auto_refresh=False,  # without a thread of its own
    )


def _in_words(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
