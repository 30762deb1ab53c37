"""Scores: which of two is better, for every tool.

    mode="min"    a lower score is better, as that of a loss
    mode="max"    a higher one is, as that of an accuracy

Inside the tools, in rules and in the history, lower is always better: with "max",
evaluations are negated when they are made, and again when a result is. So a run that
has diverged is always the worst: its score is infinite, in a result -∞ with "max".
"""

from typing import Literal

import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.trials.trials import Trial

Mode = Literal["min", "max"]


def require_mode(mode: Mode, trial: Trial) -> None:
    """Check a mode; only an evaluation of the user's own may be maximized.

    Raises:
        ValueError: If it is no mode, or a loss would be maximized.
    """
    checks.one_of("mode", mode, Mode)
    own = trial.evaluate is not None and not trial.evaluates_loss
    require(
        mode == "min" or own,
        'mode="max" needs a trial with evaluate, which returns the score to maximize. '
        "Without it the score is a loss, and the worst run would be the best.",
    )


def signed(scores: np.ndarray, mode: object) -> np.ndarray:
    """Return scores as the tools have them, lower is better, or undo that."""
    return -scores if mode == "max" else scores
