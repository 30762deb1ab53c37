"""Termination: a SIGTERM is noted, so that a run can save before it ends."""

import signal
import threading
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM
"""What a process ends with that was asked to: 143."""


class Termination:
    """Notes the first SIGTERM instead of ending at once; the second one ends at once.

    A context manager. It does so in the main thread alone, and leaves a handler of the
    user's as it is.
    """

    def __init__(self, enabled: bool):
        """Change nothing yet."""
        self._enabled, self.asked = enabled, False

    def __enter__(self) -> "Termination":
        """Begin to listen."""
        main = threading.current_thread() is threading.main_thread()
        self._listens = (
            self._enabled
            and main
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        if self._listens:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was there."""
        if self._listens:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _note(self, *_: Any) -> None:
        if self.asked:
            raise SystemExit(EXIT_CODE)
        self.asked = True
