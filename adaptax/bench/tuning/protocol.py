"""The statistics of the tuning benchmark, fixed before it runs.

* A curve is the validation loss after every few steps; its best is its least value.
* Of several seeds, the lower median counts: the ⌈n/2⌉-th smallest, infinities last.
* The target of a problem is the least, over the configurations of tuned AdamW, of the
  median over the seeds of the best.
* The time to target is the median over the seeds of the first time at or below it.
* ρ(τ) is the share of problems on which a method takes at most τ times as long as the
  fastest; the score is its mean over τ from 1 to 4, and beyond 4 nothing counts.
* The band is where the median best, between the rates linear in log rate, is within 5 %
  of its least value; its width is in decades.

Source: Dahl et al. (2023), "Benchmarking Neural Network Training Algorithms"
(arXiv 2306.07179), section 4; Dolan & Moré (2002), "Benchmarking Optimization Software
with Performance Profiles", Mathematical Programming 91.
"""

from collections.abc import Mapping, Sequence

import numpy as np

LIMIT = 4.0
TOLERANCE = 0.05


def lower_median(values: np.ndarray) -> float:
    """Return the ⌈n/2⌉-th smallest of n numbers; NaN counts as infinite."""
    ordered = np.sort(np.where(np.isnan(values), np.inf, values))
    return float(ordered[(len(ordered) - 1) // 2])


def best_losses(curves: np.ndarray) -> np.ndarray:
    """Return the least value of each curve (…, looks); infinite where there is none."""
    return np.where(np.isnan(curves), np.inf, curves).min(axis=-1)


def median_best(curves: np.ndarray) -> float:
    """Return the median over the seeds of the best, of curves (seeds, looks)."""
    return lower_median(best_losses(curves))


def choose_target(
    configurations: Mapping[tuple[str, float], np.ndarray],
) -> tuple[tuple[str, float], float]:
    """Choose the best configuration and the target that it sets.

    Args:
        configurations: Curves (seeds, looks) by configuration; of equals, the first.
    """
    medians = {name: median_best(curves) for name, curves in configurations.items()}
    chosen = min(medians, key=lambda name: medians[name])
    return chosen, medians[chosen]


def steps_to_target(curves: np.ndarray, every: int, target: float) -> float:
    """Return the median over the seeds of the steps to the target, or infinity.

    Args:
        curves: Of shape (seeds, looks); the first look is after `every` steps.
        every: Steps from look to look.
        target: The loss to reach.
    """
    reached = np.less_equal(curves, target)  # false for NaN
    looks = np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)
    return lower_median(looks) * every


def ratios_to_fastest(
    times: Mapping[str, Sequence[float]],
) -> dict[str, np.ndarray]:
    """Divide the times of each problem by the least; infinite beyond the limit.

    Args:
        times: For each method, the time on each problem, > 0. A problem that no method
            solved is infinite for all.
    """
    table = np.array(list(times.values()), float)
    fastest = table.min(axis=0)
    solved = np.isfinite(fastest)
    ratios = table / np.where(solved, fastest, 1.0)
    ratios[ratios > LIMIT] = np.inf
    return dict(zip(times, ratios, strict=True))


def profile(ratios: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """Return ρ(τ), the share of the ratios at or below each τ."""
    return (ratios[None, :] <= taus[:, None]).mean(axis=1)


def score(ratios: np.ndarray) -> float:
    """Integrate ρ over τ from 1 to the limit, exactly, and divide by the range."""
    return float(np.clip((LIMIT - ratios) / (LIMIT - 1), 0, 1).mean())
