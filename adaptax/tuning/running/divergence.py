"""Divergence: when a run has diverged, by one rule for every tool.

    start    the first loss that is finite and not 0
    low      the least value that two finite losses in a row were not above
    scale    max(|start|, start − low, 1)
    bad      the loss is not finite, or |loss − start| > 10⁶ scale
    diverged bad for 20 steps in a row

A single bad batch ends nothing, and a loss that begins at 10²⁰ is judged by itself. A
single loss that is absurdly low is bad as well, and does not widen the scale; a second
one confirms it, so that a log-likelihood may fall without bound.
Optimizers that guard themselves against overflow can keep a diverged loss finite, such
as 8·10²⁹, where others make it infinite; both are bad from the same step on.

Bad losses are left out of means. Where a run, or a part of one, is judged, it counts as
diverged if its last 3 steps are bad; if it has less than 6 steps, the last half.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

FACTOR = 1e6
PATIENCE = 20
ENDING = 3

_AT_ONCE = 2**20  # losses that are judged at once, in a dozen arrays of their size


class Watch(NamedTuple):
    """What is remembered of a run's losses: float32 scalars, and int32 `bad`.

    `start` is 0 until there is one, and `last`, the last finite loss, infinite; `bad`
    counts the bad steps in a row.
    """

    start: jax.Array
    low: jax.Array
    last: jax.Array
    bad: jax.Array


def begin() -> Watch:
    """Return the watch of a run that has taken no step."""
    none = jnp.float32(jnp.inf)
    return Watch(jnp.float32(0), none, none, jnp.int32(0))


def watched(watch: Watch, loss: jax.Array) -> Watch:
    """Return the watch after one more loss."""
    finite = jnp.isfinite(loss)
    start = jnp.where((watch.start == 0) & finite, loss, watch.start)
    confirmed = jnp.minimum(watch.low, jnp.maximum(watch.last, loss))
    low = jnp.where(finite, confirmed, watch.low)
    last = jnp.where(finite, loss, watch.last)
    bad = jnp.where(is_bad(loss, start, low), watch.bad + 1, 0)
    return Watch(start, low, last, jnp.minimum(bad, PATIENCE))


def is_bad(loss: Any, start: Any, low: Any, numpy: Any = jnp) -> Any:
    """Return whether losses are bad, for a run that began and fell so far.

    Args:
        loss: Any shape, float32; so are the others.
        start: Broadcasts with it.
        low: Broadcasts with it.
        numpy: `jax.numpy`, or NumPy for what the host has: nothing is compiled.
    """
    with np.errstate(all="ignore"):
        scale = numpy.maximum(numpy.maximum(abs(start), start - low), 1)
        rise = loss / scale - start / scale  # the difference itself could overflow
        return ~numpy.isfinite(loss) | (abs(rise) > FACTOR)


def judged(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Judge whole runs, on the host; as `watched` does, step by step.

    Args:
        losses: float32 (runs, steps), from the first step on.

    Returns:
        Which of the losses are good, seen from the end, (runs, steps); and how many bad
        steps in a row each run ends with, (runs,).
    """
    some = max(1, _AT_ONCE // losses.shape[1])
    parts = [_judged(losses[at : at + some]) for at in range(0, len(losses), some)]
    good, bad = zip(*parts, strict=True)
    return np.concatenate(good), np.concatenate(bad)


def _judged(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    fine = ~is_bad(losses, start, low, np)
    since = np.where(fine.any(axis=1), fine[:, ::-1].argmax(axis=1), losses.shape[1])
    return ~is_bad(losses, start[:, -1:], low[:, -1:], np), since


def patience(steps: int) -> int:
    """Return how many bad steps at its end make a part of a run count as diverged."""
    return min(ENDING, max(1, steps // 2))


def mean_of_good(losses: np.ndarray, good: np.ndarray, last: int) -> np.ndarray:
    """Return the means of the good losses among the last; infinite if there is none.

    Where all of the last are bad by chance, those before that are judged with them
    count: `patience` steps.

    Args:
        losses: (members, steps).
        good: Which of them are good.
        last: How many count.
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
