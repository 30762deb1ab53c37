"""Plausible metrics: one absurd loss decides nothing, and a second one is believed.

    m is absurd   if m > 1000 r or m < −10 r        where r > 0
    r ← max(|m|, 0.99 r)

r is how large the metrics have been of late. An absurd one, such as the loss of a
broken batch, is passed over like one that is not finite; but it counts in r, so that
the next of its kind, within some hundred metrics, is no longer absurd: a loss that has
really gone there is followed one metric later. Losses that stay above 0 and rise less
than a thousandfold at once are never absurd, however fast they fall.

The first metric has none before it. Where the second shows that it was absurd, |m₁| >
1000 |m₂| or m₁ < −10 |m₂|, what was made of it is forgotten.

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
    """What is usual: `size` is r, `first` is m₁, and `seen` counts the metrics used."""

    size: jax.Array
    first: jax.Array
    seen: jax.Array


class Verdict(NamedTuple):
    """Whether a metric is `plausible`, and whether it is the first that can be used.

    `anew` is so at the first plausible metric, and at the second where that shows the
    first to have been absurd.
    """

    plausible: jax.Array
    anew: jax.Array


def usual() -> Usual:
    """Start with no metric seen."""
    return Usual(real(0.0), real(0.0), counters.zero())


def judged(before: Usual, metric: jax.Array) -> tuple[Verdict, Usual]:
    """Judge a metric by those before it, and enter it; one not finite is no metric."""
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
    """Return whether a metric is far larger than usual, without overflow."""
    beyond = (metric / _ABOVE > size) | (metric / -_BELOW > size)
    return (size > 0) & beyond
