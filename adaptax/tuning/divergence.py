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
