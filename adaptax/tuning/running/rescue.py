"""Rescue: the last state of a run of several processes, saved if one of them dies.

Where another process dies, this one gets an error, or waits for it until JAX aborts it.
So the process that saves keeps what it could save. It saves that when an error comes,
or from a thread if nothing newer comes soon.
"""

import threading
from typing import Any

import jax
import numpy as np

from adaptax.tuning.running.pacing import Pace
from adaptax.tuning.storage.checkpoints import Checkpoints

_SECONDS = 3  # JAX notices the death of a process after 100 s, or as configured


class Rescue:
    """What could be saved, in the process that would save it."""

    def __init__(self, checkpoints: Checkpoints):
        """Keep nothing yet.

        Args:
            checkpoints: Where to save it.
        """
        self._checkpoints, self._pace = checkpoints, Pace()
        self._kept: tuple[int, dict[str, np.ndarray], dict[str, Any]] | None = None
        self._timer = threading.Timer(0, self._save)

    def due(self) -> bool:
        """Return whether it is time to keep something newer."""
        return self._pace.due()

    def keep(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        """Keep copies, in place of what was kept before."""
        if jax.process_index() == 0:
            copies = {name: np.array(array) for name, array in arrays.items()}
            self._kept = step, copies, notes
            self._timer.cancel()
            self._timer = threading.Timer(_SECONDS, self._save)
            self._timer.daemon = True
            self._timer.start()
        self._pace.done()

    def drop(self) -> None:
        """Keep nothing: it has been saved."""
        self._kept = None

    def close(self, error: BaseException | None) -> None:
        """End; if an error ends the run, save what is kept and say so in the error."""
        self._timer.cancel()
        if error is not None and (note := self._save()):
            error.add_note(note)

    def _save(self) -> str:
        """Save what is kept, and return what to say about it."""
        if self._kept is None:
            return ""
        try:
            self._checkpoints.rescue(*self._kept)
        except (OSError, ValueError) as failure:  # the next save of all raises it
            return f"The last state could not be saved: {failure}"
        return (
            f"{self._checkpoints.folder} has a checkpoint from before the error; the "
            "same call goes on from it. If another process has ended, its log says why."
        )
