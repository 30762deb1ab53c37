"""The statistics of the tuning benchmark, fixed before it runs.

* A curve is the validation loss after every few steps. The best loss of a run is the
  least value of its curve.
* The median over the seeds is the lower one: the ⌈n/2⌉-th smallest, infinities last.
* The target of a problem is the least median best loss of the configurations of tuned
  AdamW.
* The time to target is the median over the seeds of the first time at or below it.
* ρ(τ) is the share of problems on which a method takes at most τ times as long as the
  fastest. The score is the mean of ρ(τ) over τ from 1 to 4; longer times do not count.
* The band is the range of rates whose median best loss is within 5 % of the least,
  interpolated linearly in the logarithm of the rate; its width is in decades.

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
    """Return the least value of each curve, or infinity if all are NaN."""
    return np.where(np.isnan(curves), np.inf, curves).min(axis=-1)


def median_best(curves: np.ndarray) -> float:
    """Return the median over the seeds of the best losses of the curves."""
    return lower_median(best_losses(curves))


def choose_target(
    configurations: Mapping[tuple[str, float], np.ndarray],
) -> tuple[tuple[str, float], float]:
    """Return the best configuration and its median best loss, the target.

    Args:
        configurations: Curves (seeds, evaluations) by configuration. The first of equal
            ones is chosen.
    """
    medians = {name: median_best(curves) for name, curves in configurations.items()}
    chosen = min(medians, key=lambda name: medians[name])
    return chosen, medians[chosen]


def steps_to_target(curves: np.ndarray, every: int, target: float) -> float:
    """Return the median over the seeds of the steps to the target, or infinity.

    Args:
        curves: Losses (seeds, evaluations), the first after `every` steps.
        every: Steps between evaluations.
        target: The loss to reach.
    """
    reached = np.less_equal(curves, target)  # false for NaN
    first = np.where(reached.any(axis=-1), reached.argmax(axis=-1) + 1.0, np.inf)
    return lower_median(first) * every


def ratios_to_fastest(
    times: Mapping[str, Sequence[float]],
) -> dict[str, np.ndarray]:
    """Divide the times of each problem by the least; ratios above LIMIT are infinite.

    Args:
        times: For each method, the time on each problem, > 0. If no method solves a
            problem, all its ratios are infinite.
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
    """Return the mean of ρ(τ) over τ from 1 to LIMIT, integrated exactly."""
    return float(np.clip((LIMIT - ratios) / (LIMIT - 1), 0, 1).mean())
