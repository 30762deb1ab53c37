"""The statistics of the tuning benchmark, fixed before it runs.

    curve      the validation loss at 50 looks, evenly spaced over the T steps of a run
    smoothed   each value is the mean of the last 3 looks
    target     what 80 % of the target runs of tuned AdamW reach by T
    budget     the first look of a smoothed curve at or below the target, over T
    ratio      the test loss of a method over that of tuned AdamW with the same seed

Where a single number is needed, it is the median over the seeds; of an even number of
budgets, the smaller middle one. A run that has diverged has an infinite loss and an
infinite budget. Intervals are those of `adaptax.bench.shared.intervals`.

The pairwise score of two methods is the integral of their performance profiles: ρ(τ) is
the share of problems on which a method takes at most τ times the budget of the faster
one of the two, for τ from 1 to 4. Since no third method enters, a score does not depend
on what else is in a table.

Source: Dahl et al. (2023), "Benchmarking Neural Network Training Algorithms"
(arXiv 2306.07179), section 4; Dolan & Moré (2002), "Benchmarking Optimization Software
with Performance Profiles", Mathematical Programming 91.
"""

import numpy as np

from adaptax.bench.shared.intervals import median

LOOKS = 50
SMOOTHING = 3
REACHED = 0.8
LIMIT = 4.0


def smoothed(curves: np.ndarray) -> np.ndarray:
    """Return trailing means over 3 looks; infinite where one of them is not finite.

    Args:
        curves: Losses (..., looks). The first looks are averaged over what there is.
    """
    curves = np.where(np.isfinite(curves), curves, np.inf).astype(float)
    wide = np.concatenate(
        [np.repeat(curves[..., :1], SMOOTHING - 1, axis=-1), curves], axis=-1
    )
    windows = np.lib.stride_tricks.sliding_window_view(wide, SMOOTHING, axis=-1)
    return windows.mean(axis=-1)


def best_losses(curves: np.ndarray) -> np.ndarray:
    """Return the least smoothed value of each curve."""
    return smoothed(curves).min(axis=-1)


def choose(rates: np.ndarray, curves: np.ndarray) -> float:
    """Return the rate with the least median best loss; of equal ones, the first.

    Args:
        rates: A rate for each run, (runs,). Runs with the same rate differ by seed.
        curves: Their losses, (runs, looks).
    """
    best = best_losses(curves)
    return min(
        dict.fromkeys(rates.tolist()), key=lambda rate: median(best[rates == rate])
    )


def target(curves: np.ndarray) -> float:
    """Return the loss that 80 % of the runs reach, (runs, looks)."""
    ordered = np.sort(best_losses(curves))
    return float(ordered[int(np.ceil(REACHED * len(ordered))) - 1])


def budgets(curves: np.ndarray, loss: float) -> np.ndarray:
    """Return the first look of each run at or below a loss, over T; or infinity."""
    reached = smoothed(curves) <= loss
    first = np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)
    return first / LOOKS


def ratios(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Divide losses of the same seeds; infinite where ours is, 0 where only theirs."""
    ours = np.where(np.isfinite(ours), ours, np.inf)
    finite = np.isfinite(theirs)
    quotients = np.where(finite, ours / np.where(finite, theirs, 1.0), 0.0)
    return np.where(np.isfinite(ours), quotients, np.inf)


def pairwise_scores(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the scores of two methods from their budgets on the same problems."""
    table = np.array([ours, theirs], float)
    fastest = table.min(axis=0)
    solved = np.isfinite(fastest)
    relative = np.where(solved, table / np.where(solved, fastest, 1.0), np.inf)
    relative = np.nan_to_num(relative, nan=np.inf, posinf=np.inf)
    scores = np.clip((LIMIT - relative) / (LIMIT - 1), 0, 1).mean(axis=1)
    return float(scores[0]), float(scores[1])


def sweep_budget(reached: int, runs: int) -> float:
    """Return the expected runs of a random search until one reaches the target.

    Of `runs` configurations, tried in random order without replacement, `reached` do:
    (runs + 1) / (reached + 1) on average, or infinity if none does.
    """
    return (runs + 1) / (reached + 1) if reached else np.inf
