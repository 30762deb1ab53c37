"""Medians, and their bootstrap intervals.

An interval has the 2.5 % and 97.5 % quantiles of 2,000 resamples over the seeds, and
over the problems first where the number is one of several problems (Efron 1979). A run
that has diverged has an infinite value.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

RESAMPLES = 2000

Centre = Callable[[np.ndarray], Any]


class Interval(NamedTuple):
    """A number with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def median(values: np.ndarray) -> Any:
    """Return the median along the last axis.

    It is the mean of two middle values, and infinite if either is.
    """
    ordered = _ordered(values)
    count = ordered.shape[-1]
    return ordered[..., (count - 1) // 2 : count // 2 + 1].mean(axis=-1)


def lower_median(values: np.ndarray) -> Any:
    """Return the median along the last axis; the smaller of two middle values.

    It is for budgets: the mean of a finite and an infinite one would be infinite.
    """
    ordered = _ordered(values)
    return ordered[..., (ordered.shape[-1] - 1) // 2]


def interval(values: np.ndarray, centre: Centre = median) -> Interval:
    """Return the median of values, one for each seed, with its interval."""
    values = np.asarray(values, float)
    return _interval(
        centre(values), centre(_resampled(values, RESAMPLES, _generator()))
    )


def interval_of_problems(
    by_problem: Sequence[np.ndarray], centre: Centre = median
) -> Interval:
    """Return the median of the problems' medians, with its interval.

    Problems are drawn first, and then the seeds of each.

    Args:
        by_problem: For each problem, the values of its seeds.
        centre: The median to use.
    """
    generator, count = _generator(), len(by_problem)
    drawn = generator.integers(count, size=(RESAMPLES, count))
    medians = np.empty(drawn.shape)
    for problem, values in enumerate(by_problem):
        places = drawn == problem
        medians[places] = centre(_resampled(values, places.sum(), generator))
    return _interval(
        centre(np.array([centre(one) for one in by_problem])), centre(medians)
    )


def _resampled(
    values: np.ndarray, times: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw as many values as there are, with replacement: (times, values)."""
    rows = generator.integers(len(values), size=(times, len(values)))
    return np.asarray(values, float)[rows]


def _ordered(values: np.ndarray) -> np.ndarray:
    """Sort numbers along the last axis; NaN counts as infinite."""
    values = np.asarray(values, float)
    return np.sort(np.where(np.isnan(values), np.inf, values), axis=-1)


def _interval(value: float, drawn: np.ndarray) -> Interval:
    # Quantiles by rank, since an interpolation between infinities is undefined.
    ordered = np.sort(drawn)
    low, high = (
        float(ordered[round(share * (len(ordered) - 1))]) for share in (0.025, 0.975)
    )
    return Interval(float(value), low, high)


def _generator() -> np.random.Generator:
    return np.random.default_rng(0)
