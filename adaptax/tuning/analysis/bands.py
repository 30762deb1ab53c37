"""The band of good rates around the best one.

Between the rates of a sweep, the loss is interpolated linearly in the logarithm of the
rate. In the band around the best rate, it is within a tolerance of its lowest value.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Band(NamedTuple):
    """The rates, from `low` to `high`, that are nearly as good as the `best`.

    If `open`, the band reaches an end of the grid and may be wider.
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
    """Return the band around the best rate; `None` if no loss is finite.

    Args:
        rates: The rates, ascending, > 0.
        losses: The loss at each rate. Next to an infinite loss, the band ends at the
            last finite point.
        within: The largest difference from the best loss, relative to its size.
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
