"""The baseline of a search: the best cosine with a warm-up, found by as many runs.

    η(t) = η_peak t/w, then ½ η_peak (1 + cos π(t − w)/(T − w)),   w = share · T

The grid has five peaks per decade and four warm-ups. The remaining runs give each
cosine more seeds.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.schedule import Schedule
from adaptax.schedules import cosine
from adaptax.tuning.results import Result

WARMUP_SHARES = (0.0, 0.05, 0.1, 0.25)
_PEAKS_PER_DECADE = 5


@dataclass(frozen=True, repr=False)
class CosineBaseline(Result):
    """The best cosine with a warm-up.

    `warmup_share` is the warm-up's fraction of the run. `losses` (fresh seeds, steps),
    `scores` (fresh seeds,) and `metrics`, like `scores`, are those of runs that were
    not used to choose it.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ("score",)
    AXES: ClassVar[dict[str, str]] = {
        "peak": "",
        "warmup_share": "",
        "losses": "seeds steps",
        "scores": "seeds",
        "metrics/": "seeds",
    }

    peak: float
    warmup_share: float
    losses: np.ndarray
    scores: np.ndarray
    metrics: dict[str, np.ndarray]

    @property
    def score(self) -> float:
        """The mean score over the fresh seeds; infinite if one diverged."""
        return float(self.scores.mean())

    @property
    def schedule(self) -> Schedule:
        """The cosine as a schedule."""
        steps = self.losses.shape[1]
        return cosine(
            self.peak, steps, warmup_steps=_warmup_steps(self.warmup_share, steps)
        )


def cosine_grid(low: float, high: float, runs: int) -> tuple[np.ndarray, int]:
    """Return a grid of peaks from low to high and of warm-up shares.

    Args:
        low: The smallest peak.
        high: The largest peak.
        runs: The number of runs to spend, >= 8.

    Returns:
        The pairs of peak and share, (cosines, 2), and the number of seeds of each.

    >>> grid, seeds = cosine_grid(0.01, 1.0, 100)
    >>> len(grid), seeds, grid[0].tolist()
    (44, 2, [0.01, 0.0])
    """
    most = math.ceil(_PEAKS_PER_DECADE * math.log10(high / low)) + 1
    count = min(most, runs // len(WARMUP_SHARES))
    peaks = np.geomspace(low, high, max(count, 2))
    grid = np.array([(peak, share) for peak in peaks for share in WARMUP_SHARES])
    return grid, max(1, runs // len(grid))


def drawn_cosines(pairs: np.ndarray, num_steps: int) -> np.ndarray:
    """Return the rates of cosines at every step, (cosines, steps).

    Args:
        pairs: The pairs of peak and warm-up share, (cosines, 2).
        num_steps: The number of steps.
    """
    steps = jnp.arange(num_steps)

    def draw(peak, warmup_steps):
        return cosine(peak, num_steps, warmup_steps=warmup_steps)(steps)

    peaks = np.asarray(pairs[:, 0], np.float32)
    warmups = _warmup_steps(pairs[:, 1], num_steps).astype(np.float32)
    return np.asarray(jax.jit(jax.vmap(draw))(peaks, warmups))


def _warmup_steps(share, num_steps):
    return np.rint(share * num_steps)
