"""Rescue: save the last state of a run of several processes if one of them dies.

If another process dies, this one gets an error, or waits until JAX aborts it. So the
process that saves keeps copies of the last state. It saves them if an error occurs, or
from a thread if no newer state arrives soon.
"""

import threading
from typing import Any

import jax
import numpy as np

from adaptax.tuning.running.pacing import Pace
from adaptax.tuning.storage.checkpoints import Checkpoints

_SECONDS = 3  # JAX notices the death of a process after 100 s, or as configured


class Rescue:
    """The copies to save, in the process that saves."""

    def __init__(self, checkpoints: Checkpoints):
        """Start without copies.

        Args:
            checkpoints: The checkpoints to save to.
        """
        self._checkpoints, self._pace = checkpoints, Pace()
        self._kept: tuple[int, dict[str, np.ndarray], dict[str, Any]] | None = None
        self._timer = threading.Timer(0, self._save)

    def due(self) -> bool:
        """Return whether it is time for newer copies."""
        return self._pace.due()

    def keep(
        self, step: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        """Keep copies of arrays, replacing the previous ones."""
        if jax.process_index() == 0:
            copies = {name: np.array(array) for name, array in arrays.items()}
            self._kept = step, copies, notes
            self._timer.cancel()
            self._timer = threading.Timer(_SECONDS, self._save)
            self._timer.daemon = True
            self._timer.start()
        self._pace.done()

    def drop(self) -> None:
        """Drop the copies, since they have been saved."""
        self._kept = None

    def close(self, error: BaseException | None) -> None:
        """Stop; if an error ends the run, save the copies and note it in the error."""
        self._timer.cancel()
        if error is not None and (note := self._save()):
            error.add_note(note)

    def _save(self) -> str:
        """Save the copies, and return a note about it."""
        if self._kept is None:
            return ""
        try:
            self._checkpoints.rescue(*self._kept)
        except (OSError, ValueError) as failure:  # the next regular save raises it
            return f"The last state could not be saved: {failure}"
        return (
            f"{self._checkpoints.folder} has a checkpoint from before the error; the "
            "same call resumes from it. If another process has ended, see its log."
        )
