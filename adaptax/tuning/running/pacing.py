"""Pacing: what costs time is done again when it costs little of the time since then."""

import time

_SHARE_OF_TIME = 0.05


class Pace:
    """Tells when to do something again, so that it takes at most 5 % of the time.

    The cost is measured from the last question to `done`. The first time is at once.
    """

    def __init__(self):
        """Nothing was done yet."""
        self._cost: float | None = None
        self._asked = self._ended = 0.0

    def due(self) -> bool:
        """Return whether to do it now."""
        self._asked = time.perf_counter()
        if self._cost is None:
            return True
        return self._cost <= _SHARE_OF_TIME * (self._asked - self._ended)

    def done(self) -> None:
        """Note that it has been done, though it may not have been due."""
        self._ended = time.perf_counter()
        self._cost = self._ended - self._asked
