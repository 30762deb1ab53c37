"""Schedules from tables, such as the result of a search or a population."""

from typing import Any

import jax
import jax.numpy as jnp

from adaptax._core.schedule import Schedule, as_schedule


def piecewise_constant(rates: Any, interval: int) -> Schedule:
    """Use each rate of a table for a number of steps; the last one has no end.

    η(t) = rates[⌊t / interval⌋]
    """
    table = jnp.asarray(rates, jnp.float32)

    def rate(step):
        place = jnp.minimum(jnp.asarray(step) // interval, len(table) - 1)
        return table[place.astype(jnp.int32)]

    return as_schedule(rate)


def log_linear(log_rates: jax.Array, total_steps: int) -> Schedule:
    """Interpolate linearly in the logarithm of the rate between knots.

    The knots are evenly spread from step 0 to step total_steps − 1; after that the rate
    is constant.

    Args:
        log_rates: ln η at the knots, of shape (knots,), knots >= 2; may be traced.
        total_steps: T >= 2.
    """
    table = jnp.asarray(log_rates, jnp.float32)
    last = len(table) - 1

    def rate(step):
        place = jnp.asarray(step).astype(jnp.float32) * (last / (total_steps - 1))
        place = jnp.clip(place, 0, last)
        below = jnp.minimum(place.astype(jnp.int32), last - 1)
        part = place - below.astype(jnp.float32)
        return jnp.exp((1 - part) * table[below] + part * table[below + 1])

    return as_schedule(rate)
