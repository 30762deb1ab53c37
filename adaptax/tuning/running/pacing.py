"""Pacing: repeat a costly operation so that it takes a small fraction of the time."""

import time

_SHARE_OF_TIME = 0.05


class Pace:
    """Decides when to repeat an operation, so that it takes at most 5 % of the time.

    The cost is measured from the last call of `due` to `done`. The first time is due at
    once.
    """

    def __init__(self):
        """Start without a measured cost."""
        self._cost: float | None = None
        self._asked = self._ended = 0.0

    def due(self) -> bool:
        """Return whether the operation is due."""
        self._asked = time.perf_counter()
        if self._cost is None:
            return True
        return self._cost <= _SHARE_OF_TIME * (self._asked - self._ended)

    def done(self) -> None:
        """Record that it has been done, due or not."""
        self._ended = time.perf_counter()
        self._cost = self._ended - self._asked
