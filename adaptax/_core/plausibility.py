"""Plausible metrics: a single absurd loss is ignored, and a second one is believed.

    m is absurd   if m > 1000 r or m < −10 r        where r > 0
    r ← max(|m|, 0.99 r)

r is the recent size of the metrics. An absurd metric, such as the loss of a broken
batch, is ignored like one that is not finite, but it enters r. A second one of its size
within some hundred metrics is therefore plausible, and a real jump of the loss is
followed one metric late. Positive losses that rise less than a thousandfold at once are
never absurd, however fast they fall.

The first metric cannot be judged. Where the second shows that it was absurd, |m₁| >
1000 |m₂| or m₁ < −10 |m₂|, its effect is undone.

Source: a breakdown point above 0, Hampel (1971), "A General Qualitative Definition of
Robustness", Annals of Mathematical Statistics 42; the factors are ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import counters
from adaptax._core.scalars import real

_ABOVE, _BELOW, _MEMORY = 1000.0, 10.0, 0.99


class Usual(NamedTuple):
    """The recent metrics: `size` is r, `first` is m₁, and `seen` counts those used."""

    size: jax.Array
    first: jax.Array
    seen: jax.Array


class Verdict(NamedTuple):
    """Whether a metric is `plausible`, and whether to start `anew` with it.

    `anew` holds at the first plausible metric, and at the second if that shows the
    first to be absurd.
    """

    plausible: jax.Array
    anew: jax.Array


def usual() -> Usual:
    """Return the state before any metric."""
    return Usual(real(0.0), real(0.0), counters.zero())


def judged(before: Usual, metric: jax.Array) -> tuple[Verdict, Usual]:
    """Judge a metric by those before it, and record it if it is finite."""
    finite = jnp.isfinite(metric)
    metric = jnp.where(finite, metric, 0).astype(jnp.float32)
    plausible = finite & ~_absurd(metric, before.size)
    only_one = (before.seen == 1) & _absurd(before.first, jnp.abs(metric))
    anew = plausible & ((before.seen == 0) | only_one)
    size = jnp.maximum(jnp.abs(metric), real(_MEMORY) * before.size)
    after = Usual(
        size=jnp.where(anew, jnp.abs(metric), jnp.where(finite, size, before.size)),
        first=jnp.where(anew, metric, before.first),
        seen=jnp.where(anew, 1, counters.increment(before.seen, where=plausible)),
    )
    return Verdict(plausible, anew), after


def _absurd(metric: jax.Array, size: jax.Array) -> jax.Array:
    """Return whether a metric is absurd, computed without overflow."""
    beyond = (metric / _ABOVE > size) | (metric / -_BELOW > size)
    return (size > 0) & beyond
