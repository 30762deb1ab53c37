"""Suggestions: rates read off the smoothed losses s of a range test that has fallen.

    valley    2/3 along the longest subsequence of s in which each value is lower than
              the previous one by at least 1/200 of the whole fall
    slide     two points, 15 % of the steps apart, are moved down from the highest rate
              until their slopes differ by at most 1/5 of the steepest descent: the
              lower one
    minimum   a tenth of the rate of the lowest s_t
    steep     the rate where ds/d(log rate) is most negative, between the last point
              within 4 σ_t of the start and the lowest s_t

`range_tests` defines s, σ and the start.

Source: Gugger (2018), "How Do You Find A Good Learning Rate", for `minimum`; fastai's
`lr_find` for the others. In fastai any decrease counts for `valley`, even at rates far
too small to train with, and it is 1/2 along, though described as 2/3, which trains
better; the slopes of `slide` may differ by 0.005 per step, whatever the unit of the
loss. Lightning's `steep` uses slopes by the rate itself, which are steepest where the
rate is smallest.
"""

import numpy as np

_VALLEY_DROP = 0.005
_SLIDE_LENGTH = 0.15
_SLIDE_TOLERANCE = 0.2


def valley(rates: np.ndarray, smoothed: np.ndarray, start: float) -> float:
    """Return the rate 2/3 along the longest decrease; the losses began at `start`."""
    drop = _VALLEY_DROP * (start - smoothed.min())
    places = longest_decrease(smoothed, drop)
    return float(rates[places[2 * (len(places) - 1) // 3]])


def slide(rates: np.ndarray, smoothed: np.ndarray, steps: int) -> float | None:
    """Return the rate where two slopes agree, if any do, for a test of `steps`."""
    apart = round(_SLIDE_LENGTH * steps)
    if len(smoothed) <= apart:
        return None
    slopes = np.gradient(smoothed)
    differences = np.abs(slopes[apart:] - slopes[:-apart])
    level = np.flatnonzero(differences <= _SLIDE_TOLERANCE * -slopes.min())
    return float(rates[level[-1]]) if len(level) else None


def minimum(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """Return a tenth of the rate of the lowest loss."""
    return float(rates[smoothed.argmin()]) / 10


def steep(rates: np.ndarray, smoothed: np.ndarray, level: np.ndarray) -> float:
    """Return the rate of the steepest descent after the losses left their `level`."""
    if len(rates) == 1:
        return float(rates[0])
    end = int(smoothed.argmin())
    begin = np.flatnonzero(smoothed[: end + 1] > level[: end + 1])
    falling = slice(int(begin[-1]) if len(begin) else 0, end + 1)
    slopes = np.gradient(smoothed, np.log(rates))[falling]
    return float(rates[falling][slopes.argmin()])


def longest_decrease(values: np.ndarray, drop: float) -> list[int]:
    """Return the indices of the longest subsequence that falls by `drop` each time.

    Of equally long ones, it is the one that ends first.

    Args:
        values: The values, of shape (n,).
        drop: The smallest fall, > 0.

    >>> longest_decrease(np.array([3.0, 5.0, 4.0, 3.9, 1.0, 2.0]), drop=0.5)
    [1, 2, 4]
    """
    lengths, before = np.ones(len(values), int), np.full(len(values), -1)
    for place in range(1, len(values)):
        longer = np.where(values[:place] >= values[place] + drop, lengths[:place], 0)
        previous = int(longer.argmax())
        if longer[previous]:
            lengths[place], before[place] = longer[previous] + 1, previous
    places = [int(lengths.argmax())]
    while before[places[-1]] >= 0:
        places.append(int(before[places[-1]]))
    return places[::-1]
