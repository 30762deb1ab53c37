"""Divergence: the rule by which every tool decides that a run has diverged.

    start    the first loss that is finite and not 0
    low      the lowest max(ℓ, ℓ′) of two consecutive finite losses ℓ, ℓ′
    scale    max(|start|, start − low, 1)
    bad      the loss is not finite, or |loss − start| > 10⁶ scale
    diverged bad for 20 consecutive steps

A single bad batch does not end a run, and the scale adapts to a loss that starts at
10²⁰. A single loss that is absurdly low is bad too, and does not change the scale; a
second one confirms it, so that a log-likelihood may fall without bound. A diverged loss
may be infinite, or finite with optimizers that guard against overflow, such as 8·10²⁹;
both are bad from the same step on.

Bad losses are left out of means. A run, or a part of one, counts as diverged if its
last 3 steps are bad, or its last half if it has fewer than 6 steps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FACTOR = 1e6
PATIENCE = 20
ENDING = 3

_AT_ONCE = 2**20  # losses to judge at once, which needs a dozen arrays of this size


class Watch(NamedTuple):
    """The state of the rule for one run: float32 scalars, and int32 `bad`.

    `start` is initially 0, and `last`, the last finite loss, infinite. `bad` counts the
    consecutive bad steps.
    """

    start: jax.Array
    low: jax.Array
    last: jax.Array
    bad: jax.Array


def begin() -> Watch:
    """Return the state before the first step."""
    none = jnp.float32(jnp.inf)
    return Watch(jnp.float32(0), none, none, jnp.int32(0))


def watched(watch: Watch, loss: jax.Array) -> Watch:
    """Return the state after one more loss."""
    finite = jnp.isfinite(loss)
    start = jnp.where((watch.start == 0) & finite, loss, watch.start)
    confirmed = jnp.minimum(watch.low, jnp.maximum(watch.last, loss))
    low = jnp.where(finite, confirmed, watch.low)
    last = jnp.where(finite, loss, watch.last)
    bad = jnp.where(is_bad(loss, start, low), watch.bad + 1, 0)
    return Watch(start, low, last, jnp.minimum(bad, PATIENCE))


def is_bad(loss: Any, start: Any, low: Any, numpy: Any = jnp) -> Any:
    """Return whether losses are bad, for a run with this start and low.

    Args:
        loss: The losses, float32 of any shape.
        start: The start, float32, broadcast against the losses.
        low: The low, float32, broadcast against the losses.
        numpy: `jax.numpy`, or NumPy for arrays of the host, which compiles nothing.
    """
    with np.errstate(all="ignore"):
        scale = numpy.maximum(numpy.maximum(abs(start), start - low), 1)
        rise = loss / scale - start / scale  # the difference itself could overflow
        return ~numpy.isfinite(loss) | (abs(rise) > FACTOR)


def judged(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judge whole runs on the host, by the same rule as `watched`.

    Args:
        losses: float32 (runs, steps), from the first step on.

    Returns:
        Whether each loss is good, by the final scale, (runs, steps); and the number of
        consecutive bad steps at the end of each run, (runs,).
    """
    some = max(1, _AT_ONCE // losses.shape[1])
    parts = [_judged(losses[at : at + some]) for at in range(0, len(losses), some)]
    good, bad = zip(*parts, strict=True)
    return np.concatenate(good), np.concatenate(bad)


def ended(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """End runs that have diverged, as training does.

    Args:
        losses: float32 (runs, steps), from the first step on.

    Returns:
        The losses, which are NaN after a run has diverged, and whether it has, (runs,).
    """
    steps = np.arange(losses.shape[1])
    fine, *_ = _watched(losses)
    bad = steps - np.maximum.accumulate(np.where(fine, steps, -1), axis=1)
    over = np.maximum.accumulate(bad, axis=1) >= PATIENCE
    after = np.pad(over[:, :-1], ((0, 0), (1, 0)))
    return np.where(after, np.float32(np.nan), losses), over[:, -1]


def _judged(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fine, start, low = _watched(losses)
    since = np.where(fine.any(axis=1), fine[:, ::-1].argmax(axis=1), losses.shape[1])
    return ~is_bad(losses, start[:, -1:], low[:, -1:], np), since


def _watched(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each step, whether the loss was good then, the start and the low."""
    finite = np.isfinite(losses)
    newest = np.maximum.accumulate(np.where(finite, np.arange(losses.shape[1]), -1), 1)
    filled = np.take_along_axis(losses, np.maximum(newest, 0), axis=1)
    filled = np.where(newest < 0, np.float32(np.inf), filled)
    last = np.pad(filled[:, :-1], ((0, 0), (1, 0)), constant_values=np.inf)
    confirmed = np.where(finite, np.maximum(last, losses), np.float32(np.inf))
    low = np.minimum.accumulate(confirmed, axis=1)
    begins = finite & (losses != 0)
    first = np.take_along_axis(losses, begins.argmax(axis=1)[:, None], axis=1)
    start = np.where(np.logical_or.accumulate(begins, axis=1), first, np.float32(0))
    return ~is_bad(losses, start, low, np), start, low


def patience(steps: int) -> int:
    """Return the number of bad last steps with which a part of a run has diverged."""
    return min(ENDING, max(1, steps // 2))


def mean_of_good(losses: np.ndarray, good: np.ndarray, last: int) -> np.ndarray:
    """Return the mean of the good losses among the last; infinite if there is none.

    If all of the last are bad, the mean is over the last `patience` steps.

    Args:
        losses: The losses, (members, steps).
        good: Whether each loss is good.
        last: The number of last losses to average.
    """
    steps = losses.shape[1]

    def mean(count):
        kept = good[:, steps - count :]
        counted = np.where(kept, losses[:, steps - count :], 0)
        total = counted.sum(axis=1, dtype=float)
        return total / np.maximum(kept.sum(axis=1), 1), kept.any(axis=1)

    (found, some), (wider, any_good) = mean(last), mean(max(last, patience(steps)))
    found = np.where(some, found, np.where(any_good, wider, np.inf))
    return found.astype(np.float32)
