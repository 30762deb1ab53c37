"""The band of good rates: how far the rate may be off, in decades.

Between the rates of a sweep the loss is taken to be linear in the logarithm of the
rate. The band is where it is within a tolerance of its least value, around the best
rate.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Band(NamedTuple):
    """The rates, from `low` to `high`, that are nearly as good as the `best`.

    `open` says that the band reaches an end of the grid, so that it may be wider.
    """

    best: float
    low: float
    high: float
    open: bool

    @property
    def decades(self) -> float:
        """The width, log₁₀(high/low)."""
        return float(np.log10(self.high / self.low))


def band(
    rates: Sequence[float], losses: Sequence[float], within: float = 0.05
) -> Band | None:
    """Find the band around the best rate; `None` where no loss is finite.

    Args:
        rates: Ascending, > 0.
        losses: At each rate. Next to one that is infinite the band ends at the grid's
            point.
        within: How much worse than the best is still good, as a share of its size.
    """
    places, heights = np.log10(np.asarray(rates)), np.asarray(losses, float)
    if not np.isfinite(heights).any():
        return None
    middle = int(np.argmin(heights))
    ceiling = heights[middle] + within * abs(heights[middle])

    def edge(step: int) -> tuple[float, bool]:
        here = middle
        while 0 <= here + step < len(heights) and heights[here + step] <= ceiling:
            here += step
        beyond = here + step
        if not 0 <= beyond < len(heights):
            return places[here], True
        if not np.isfinite(heights[beyond]):
            return places[here], False
        part = (ceiling - heights[here]) / (heights[beyond] - heights[here])
        return places[here] + part * (places[beyond] - places[here]), False

    (low, low_open), (high, high_open) = edge(-1), edge(1)
    ends = low_open or high_open
    return Band(float(rates[middle]), float(10**low), float(10**high), ends)
