"""Evaluations: what a controller compares, made of the metrics that it is told.

A metric counts as it is, or as a part of a mean over a `Window`, an exponential
`Average` or the `Recent` few. Only the last of these needs an array, so its length is
structural; those of the others are numbers like any other.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import average_weight
from adaptax._core.scalars import real

Mode = Literal["min", "max"]
"""Whether a metric is to be small, as a loss, or large, as an accuracy."""

ThresholdMode = Literal["relative", "absolute"]
"""Whether a threshold is a part of the best evaluation or a number like it."""

UNSEEN = float(np.finfo(np.float32).max)
"""What stands for the best evaluation before there is one."""


def whole(value: Scalar) -> jax.Array:
    """Return a number of evaluations as an int32 scalar."""
    return jnp.asarray(value).astype(jnp.int32)


def bounded(value: jax.Array) -> jax.Array:
    """Keep a sum or a difference of finite numbers finite."""
    return jnp.clip(value, -UNSEEN, UNSEEN)


def improves(
    evaluation: jax.Array,
    best: jax.Array,
    threshold: Scalar,
    threshold_mode: ThresholdMode,
) -> jax.Array:
    """Return whether an evaluation lies below the best one by more than a threshold.

        m < best − θ |best|    (relative)     or     m < best − θ    (absolute)

    The first evaluation does, since it has nothing to compare with.
    """
    size = jnp.abs(best) if threshold_mode == "relative" else real(1.0)
    return (best == UNSEEN) | (evaluation < bounded(best - real(threshold) * size))


class Window(NamedTuple):
    """A window that is filling: the sum of its metrics, and their number."""

    total: jax.Array
    seen: jax.Array


def window() -> Window:
    """Start an empty window."""
    return Window(real(0.0), counters.zero())


def enter(
    filling: Window, metric: jax.Array, length: Scalar
) -> tuple[Window, jax.Array, jax.Array]:
    """Enter a metric into a window, which starts anew once it is full.

    Returns:
        The window, the mean of its metrics with this one, and whether it is full.
    """
    total, seen = bounded(filling.total + metric), filling.seen + 1
    full = seen >= whole(length)
    started = Window(jnp.where(full, 0, total), jnp.where(full, 0, seen))
    return started, total / seen.astype(jnp.float32), full


class Average(NamedTuple):
    """An exponential average without bias, and the number of its metrics."""

    mean: jax.Array
    seen: jax.Array


def average() -> Average:
    """Start an average."""
    return Average(real(0.0), counters.zero())


def averaged(before: Average, metric: jax.Array, decay: Scalar) -> Average:
    """Enter a metric into an average; with a decay of 0 it is the last metric."""
    seen = counters.increment(before.seen)
    weight = average_weight(decay, seen).astype(jnp.float32)
    return Average((1 - weight) * before.mean + weight * metric, seen)


class Recent(NamedTuple):
    """The latest few evaluations, oldest first, and how many of them are there."""

    values: jax.Array
    filled: jax.Array


def recent(length: int) -> Recent:
    """Start with none of so many evaluations."""
    return Recent(jnp.zeros((length,), jnp.float32), counters.zero())


def shifted(before: Recent, evaluation: jax.Array) -> Recent:
    """Let a new evaluation in at the end, and the oldest out."""
    values = jnp.concatenate([before.values[1:], evaluation[None]])
    return Recent(values, jnp.minimum(before.filled + 1, len(values)))


def mean_of(latest: Recent) -> jax.Array:
    """Return the mean of the evaluations that are there, at least one."""
    ages = jnp.arange(len(latest.values), 0, -1, dtype=jnp.int32)
    here = ages <= latest.filled
    parts = latest.values / latest.filled.astype(jnp.float32)
    return jnp.sum(jnp.where(here, parts, 0))
