"""Standings: the best so far in words, by the score that the result ranks by.

If the trial is evaluated, its scores are known only at the end of a round; until then
the training loss is shown, and called so. Otherwise a score is the mean of the last
losses, and is shown from the first step on.
"""

from typing import Any

import numpy as np

from adaptax.tuning.running import divergence
from adaptax.tuning.scores import Mode, signed
from adaptax.tuning.storage.named_arrays import flatten_names


def by_score(
    scores: np.ndarray, hparams: Any, *, evaluated: bool, mode: Mode, seeds: int = 1
) -> str:
    """Return the best score in words, with its hyperparameters; "" if none is finite.

    Args:
        scores: The scores, (runs,), lower is better.
        hparams: Hyperparameters with a leading axis of runs.
        evaluated: Whether they are evaluations, and not means of losses.
        mode: Whether a score was negated.
        seeds: The number of adjacent runs whose mean is the score of a configuration.
    """
    means = scores.reshape(-1, seeds).mean(axis=1)
    best = int(means.argmin())
    if not np.isfinite(means[best]):
        return ""
    return f"{in_words(means[best], evaluated, mode)}{_at(hparams, best * seeds)}"


def in_words(score: Any, evaluated: bool, mode: Mode) -> str:
    """Return a score, lower is better, as the user has it, with what it is."""
    what = "evaluation" if evaluated else "mean loss"
    return f"score {signed(score, mode):.4g} ({what})"


def by_loss(losses: np.ndarray, hparams: Any) -> str:
    """Return the lowest mean training loss in words; "" if none is finite."""
    means = divergence.mean_of_good(losses, np.isfinite(losses), losses.shape[1])
    best = int(means.argmin())
    if not np.isfinite(means[best]):
        return ""
    return f"training loss {means[best]:.4g}{_at(hparams, best)}"


def _at(hparams: Any, run: int) -> str:
    named = flatten_names(hparams).items()
    return " at " + ", ".join(f"{name} {value[run]:.3g}" for name, value in named)
