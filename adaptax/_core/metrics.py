"""Smoothed metrics, which controllers compare.

An evaluation is a metric itself, or a mean of metrics: over a `Window`, an exponential
`Average`, or the most `Recent` few. Only `Recent` needs an array, so its length is
structural; the other lengths are data.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import average_weight
from adaptax._core.leaves import chosen
from adaptax._core.scalars import real

Mode = Literal["min", "max"]
"""Whether to minimize the metric, as a loss, or maximize it, as an accuracy."""

ThresholdMode = Literal["relative", "absolute"]
"""Whether a threshold is a fraction of the best evaluation or in its units."""

UNSEEN = float(np.finfo(np.float32).max)
"""The best evaluation before there is one."""


def whole(value: Scalar) -> jax.Array:
    """Return a number of evaluations as an int32 scalar."""
    return jnp.asarray(value).astype(jnp.int32)


def bounded(value: jax.Array) -> jax.Array:
    """Clip a sum or difference of finite numbers to the range of float32."""
    return jnp.clip(value, -UNSEEN, UNSEEN)


def improves(
    evaluation: jax.Array,
    best: jax.Array,
    threshold: Scalar,
    threshold_mode: ThresholdMode,
) -> jax.Array:
    """Return whether an evaluation is below the best one by more than a threshold.

        m < best − θ |best|    (relative)     or     m < best − θ    (absolute)

    The first evaluation always improves.
    """
    size = jnp.abs(best) if threshold_mode == "relative" else real(1.0)
    return (best == UNSEEN) | (evaluation < bounded(best - real(threshold) * size))


class Window(NamedTuple):
    """A partly filled window: the sum of its metrics, and their number."""

    total: jax.Array
    seen: jax.Array


def window() -> Window:
    """Return an empty window."""
    return Window(real(0.0), counters.zero())


def enter(
    filling: Window, metric: jax.Array, length: Scalar
) -> tuple[Window, jax.Array, jax.Array]:
    """Add a metric to a window, which is emptied once it is full.

    Returns:
        The window, the mean of its metrics with this one, and whether it became full.
    """
    total, seen = bounded(filling.total + metric), filling.seen + 1
    full = seen >= whole(length)
    started = Window(jnp.where(full, 0, total), jnp.where(full, 0, seen))
    return started, total / seen.astype(jnp.float32), full


def by_windows(
    evaluate: Callable[[Any, jax.Array], Any], length: Scalar, mode: Mode
) -> Callable[..., Any]:
    """Return a method for `follow` that evaluates the mean of each full window.

    Args:
        evaluate: `evaluate(state, mean)` returns the method's state, which has the
            field `window`, after an evaluation. The mean is as minimized.
        length: Metrics per evaluation, >= 1.
        mode: Whether the metric is minimized or maximized.
    """

    def advance(state, metric, updates, params):
        del updates, params
        metric = metric if mode == "min" else -metric
        filling, mean, full = enter(state.window, metric, length)
        evaluated = chosen(full, evaluate(state, mean), state)
        return evaluated._replace(window=filling)

    return advance


class Average(NamedTuple):
    """A bias-corrected exponential average, and the number of its metrics."""

    mean: jax.Array
    seen: jax.Array


def average() -> Average:
    """Return an average of no metrics."""
    return Average(real(0.0), counters.zero())


def averaged(before: Average, metric: jax.Array, decay: Scalar) -> Average:
    """Add a metric to an average; with a decay of 0 the average is the last metric."""
    seen = counters.increment(before.seen)
    weight = average_weight(decay, seen).astype(jnp.float32)
    return Average((1 - weight) * before.mean + weight * metric, seen)


class Recent(NamedTuple):
    """The most recent few evaluations, oldest first, and their number."""

    values: jax.Array
    filled: jax.Array


def recent(length: int) -> Recent:
    """Return room for so many evaluations, with none in it."""
    return Recent(jnp.zeros((length,), jnp.float32), counters.zero())


def shifted(before: Recent, evaluation: jax.Array) -> Recent:
    """Append an evaluation, and drop the oldest."""
    values = jnp.concatenate([before.values[1:], evaluation[None]])
    return Recent(values, jnp.minimum(before.filled + 1, len(values)))


def mean_of(recent: Recent) -> jax.Array:
    """Return the mean of the evaluations; there must be at least one."""
    ages = jnp.arange(len(recent.values), 0, -1, dtype=jnp.int32)
    filled = ages <= recent.filled
    parts = recent.values / recent.filled.astype(jnp.float32)
    return jnp.sum(jnp.where(filled, parts, 0))
