"""Range tests: reading the losses of a run whose rate grew from step to step.

Each loss is replaced by the median of itself and its two neighbours (at the ends, of
the outermost three), so that a single bad batch has no effect. These losses ℓ_t are
smoothed by a bias-corrected exponential average with the smoothing b:

    a_t = b a_{t−1} + (1 − b) ℓ_t,   s_t = a_t / (1 − bᵗ)

A loss that is not finite is replaced by the previous one, except for three or more at
the end. Only the losses before the first diverged s_t are used, that is where, with
m_t = min(s_1, …, s_t), first reached at step u, and the divergence d,

    s_t − m_t > (d − 1) max(m_t − f, 4 σ_u)

The floor f is as far below the lowest s_t as that is below the start, but not below 0
if no loss is negative: so losses of any sign and offset can diverge. The start is the
mean of the first tenth of the losses, or of the second if that is lower. σ_t is the
noise of s_t minus the start, estimated from the differences of the losses in a fifth of
the steps before t, without outliers.

A loss that only fluctuates rises about as much as it falls. So a curve has fallen if,
with the lowest s_t after the first tenth at step u,

    start − s_u > 4 σ_u   and   start − s_u > 3 max_{i<j≤u} (s_j − s_i − 2 σ_i − 2 σ_j)

The first condition compares the fall with noise that is independent between steps; the
second compares it with the largest rise before u beyond that noise, that is with
fluctuations that last for several steps. A curve that has not fallen has risen if it
ends in losses that are not finite, or if its last s_t is above the start by more than
4 σ_t, and its largest s_t by more than 3 times the largest fall before it, measured
likewise. Otherwise it is flat. There are suggestions only if it has fallen. They do not
use the first tenth; see `suggestions`.

Source: Smith (2017), "Cyclical Learning Rates for Training Neural Networks", WACV,
section 3.3; Gugger (2018), "How Do You Find A Good Learning Rate", for the smoothing
and d = 4.
"""

from typing import NamedTuple

import numpy as np

from adaptax.tuning.analysis.suggestions import minimum, slide, steep, valley

SUGGESTIONS = ("valley", "slide", "minimum", "steep")
FELL = ("never diverged", "ok")
STATUSES = ("not finite", "diverged at once", "flat", *FELL)

_NOISE = 4.0  # in standard deviations
_NET = 3.0  # times the largest move the other way
_GAP = 2  # more losses than this that are not finite, at the end, are a divergence
# Ratio of the variances estimated from losses and from medians of three: 5 for normal
# losses, 10 for log-normal ones, 18 for Student's t of 2. Beyond 20 there are outliers.
_OUTLIERS = 20.0
_ROUNDING = 1e-5  # of float32 losses, relative


class Reading(NamedTuple):
    """The reading of one curve.

    `smoothed` is NaN once the loss has diverged. `status` is one of `STATUSES`, and
    `suggestions` has a rate or `None` for each of `SUGGESTIONS`.
    """

    smoothed: np.ndarray
    status: str
    suggestions: dict[str, float | None]


def read(
    rates: np.ndarray, losses: np.ndarray, smoothing: float, divergence: float
) -> Reading:
    """Read one curve.

    Args:
        rates: The rates, ascending, of shape (steps,).
        losses: The losses, of shape (steps,).
        smoothing: b in [0, 1).
        divergence: d > 1.
    """
    smoothed = np.full(len(losses), np.nan)
    suggestions: dict[str, float | None] = dict.fromkeys(SUGGESTIONS)
    places = np.flatnonzero(np.isfinite(losses))
    if len(places) == 0:
        return Reading(smoothed, "not finite", suggestions)
    tenth = max(1, len(losses) // 10)
    length = int(places[-1]) + 1
    if len(losses) - length <= _GAP:  # isolated losses that happen to be the last
        length = len(losses)
    curve = _Curve(_filled(losses[:length]), smoothing, tenth)
    stop = curve.stop(divergence)
    smoothed[:stop] = curve.smoothed[:stop]
    if not curve.fell(stop):
        rose = length < len(losses) or curve.only_rose()
        return Reading(smoothed, "diverged at once" if rose else "flat", suggestions)
    rose = stop < len(losses) or curve.rose_again()
    counted = rates[tenth:stop], smoothed[tenth:stop]
    suggestions["valley"] = valley(*counted, curve.start)
    steepest = steep(*counted, curve.start - curve.needed[tenth:stop])
    if rose:
        suggestions["slide"] = slide(*counted, len(losses))
        suggestions["minimum"] = minimum(*counted)
    # While the loss still falls, the steepest of the highest rates means nothing.
    if rose or steepest < rates[-tenth]:
        suggestions["steep"] = steepest
    return Reading(smoothed, "ok" if rose else "never diverged", suggestions)


def is_over(
    losses: np.ndarray, num_steps: int, smoothing: float, divergence: float
) -> bool:
    """Return whether a test has fallen and diverged, so that it can end early.

    The reading is then the same, whatever follows, as long as no smoothed loss is below
    the lowest so far, and no loss below 0 if none was.

    Args:
        losses: The losses so far.
        num_steps: The steps of the whole test.
        smoothing: See `read`.
        divergence: See `read`.
    """
    places = np.flatnonzero(np.isfinite(losses))
    length = int(places[-1]) + 1 if len(places) else 0
    tenth = max(1, num_steps // 10)
    if length <= 2 * tenth:  # the start is not known yet
        return False
    curve = _Curve(_filled(losses[:length]), smoothing, tenth)
    stop = curve.stop(divergence)
    # The next loss may change the last median.
    return stop < length - 1 and curve.fell(stop)


class Agreement(NamedTuple):
    """The combined reading of several curves; `spread` has the extreme suggestions."""

    status: str
    suggestions: dict[str, float | None]
    spread: dict[str, tuple[float, float] | None]


def agreement(readings: list[Reading]) -> Agreement:
    """Combine readings: the most frequent status, and geometric medians.

    There are suggestions only if more than half of the curves have fallen, and each
    only if more than half of the curves have it.
    """
    statuses = [reading.status for reading in readings]
    fell = [status for status in statuses if status in FELL]
    some = 2 * len(fell) > len(statuses)
    counted = fell if some else [status for status in statuses if status not in FELL]
    suggestions: dict[str, float | None] = dict.fromkeys(SUGGESTIONS)
    spread: dict[str, tuple[float, float] | None] = dict.fromkeys(SUGGESTIONS)
    for name in SUGGESTIONS:
        each = [reading.suggestions[name] for reading in readings]
        found = [rate for rate in each if rate is not None]
        if some and 2 * len(found) > len(readings):
            suggestions[name] = float(np.exp(np.median(np.log(found))))
            spread[name] = (min(found), max(found))
    return Agreement(max(STATUSES, key=counted.count), suggestions, spread)


def _filled(losses: np.ndarray) -> np.ndarray:
    """Replace each loss that is not finite by the previous one, or the first finite."""
    places = np.flatnonzero(np.isfinite(losses))
    before = np.searchsorted(places, np.arange(len(losses)), side="right") - 1
    return np.asarray(losses[places[np.maximum(before, 0)]], float)


class _Curve:
    """The losses without isolated outliers, smoothed, and their noise."""

    def __init__(self, losses: np.ndarray, smoothing: float, tenth: int):
        self.losses = medians_of_three(losses)
        self.smoothed = smooth(self.losses, smoothing)
        self.tenth = tenth
        fifth = self.losses[: 2 * tenth]
        # Both tenths: a loss that changes within the first fifth must fall later too.
        self.start = float(min(fifth[:tenth].mean(), fifth[-tenth:].mean()))
        self.settled = len(fifth) - 1
        variance = _variance(losses, 2 * tenth)
        if tenth >= 3:  # a few medians are often equal
            most = _OUTLIERS * _variance(self.losses, 2 * tenth)
            variance = np.where(most > 0, np.minimum(variance, most), variance)
        left = smoothing ** np.arange(1, len(losses) + 1)
        share = (1 - smoothing) / (1 + smoothing) * (1 + left) / (1 - left)
        noise = np.sqrt(variance * share + variance[self.settled] / len(fifth))
        self.needed = np.maximum(_NOISE * noise, _ROUNDING * abs(self.start))

    def stop(self, divergence: float) -> int:
        """Return the number of steps before the loss diverged."""
        least = self.smoothed.min()
        floor = 2 * least - self.start
        if self.losses.min() >= 0:
            floor = max(floor, 0.0)
        best = np.minimum.accumulate(self.smoothed)
        places = np.arange(len(best))
        at_best = np.maximum.accumulate(np.where(self.smoothed == best, places, 0))
        height = np.maximum(best - floor, self.needed[at_best])
        over = self.smoothed - best > (divergence - 1) * height
        return int(np.argmax(over)) if over.any() else len(over)

    def fell(self, stop: int) -> bool:
        """Return whether the loss fell by more than its noise before step `stop`."""
        counted = self.smoothed[self.tenth : stop]
        if not len(counted):
            return False
        place = int(counted.argmin())
        fall = self.start - counted[place]
        climb = largest_climb(counted[: place + 1], self.needed[self.tenth :])
        return bool(fall > self.needed[self.tenth + place] and fall > _NET * climb)

    def only_rose(self) -> bool:
        """Return whether a loss that never fell rose and ends above its start."""
        counted = self.smoothed[self.tenth :]
        if not len(counted):
            return False
        place = int(counted.argmax())
        fall = largest_climb(-counted[: place + 1], self.needed[self.tenth :])
        noise = max(self.needed[self.settled], self.needed[-1])
        is_higher = self.smoothed[-1] - self.start > noise
        return bool(is_higher and counted[place] - self.start > _NET * fall)

    def rose_again(self) -> bool:
        """Return whether a loss that fell ends above its lowest value."""
        place = int(self.smoothed.argmin())
        return bool(self.smoothed[-1] - self.smoothed[place] > self.needed[place])


def medians_of_three(losses: np.ndarray) -> np.ndarray:
    """Replace each loss by the median of itself and its two neighbours.

    >>> medians_of_three(np.array([3.0, 3.0, 9.0, 2.0, 1.0])).tolist()
    [3.0, 3.0, 3.0, 2.0, 2.0]
    """
    if len(losses) < 3:
        return losses
    inner = np.median([losses[:-2], losses[1:-1], losses[2:]], axis=0)
    return np.pad(inner, 1, mode="edge")


def largest_climb(values: np.ndarray, noise: np.ndarray) -> float:
    """Return the largest rise from one value to a later one, minus their mean noise.

    >>> largest_climb(np.array([2.0, 5.0, 1.0, 3.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    2.5
    """
    noise = noise[: len(values)] / 2
    lowest = np.minimum.accumulate(values + noise)
    return max(0.0, float(np.max(values - noise - lowest)))


def _variance(losses: np.ndarray, window: int) -> np.ndarray:
    """Estimate the variance of the noise at each step from the previous differences."""
    squares = np.diff(losses, prepend=losses[0]) ** 2 / 2
    sums = np.cumsum(squares)
    counts = np.arange(len(losses))
    sums[window:] -= sums[:-window].copy()
    return sums / np.clip(counts, 1, window)


def smooth(losses: np.ndarray, smoothing: float) -> np.ndarray:
    """Return the bias-corrected exponential average at each step.

    >>> smooth(np.array([1.0, 1.0, 4.0]), 0.5).tolist()
    [1.0, 1.0, 2.714285]
    """
    average, smoothed = 0.0, np.empty(len(losses))
    for step, loss in enumerate(losses):
        average = smoothing * average + (1 - smoothing) * loss
        smoothed[step] = average / (1 - smoothing ** (step + 1))
    return smoothed
