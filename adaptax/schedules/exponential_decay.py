"""Exponential decay: the rate falls by the same factor every s steps.

    η_t = max(η₀ r^(t/s), η_end)        staircase: η_t = max(η₀ r^⌊t/s⌋, η_end)

Source: Darken & Moody (1990), "Note on Learning Rate Schedules for Stochastic
Optimization", for search-then-converge schedules in general; the form with decay steps
is TensorFlow's. With s = 1 it is the geometric schedule η_t = r η_{t−1}.

`optax.exponential_decay` also allows r > 1, with its end value as an upper bound.
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import log, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.periods import whole


@translating
def exponential_decay(
    initial: Scalar,
    *,
    decay_rate: Scalar,
    decay_steps: Scalar = 1,
    staircase: bool = False,
    end: Scalar = 0.0,
) -> Schedule:
    """Multiply the rate by `decay_rate` every `decay_steps` steps.

    The rate is `initial` at step 0, and never less than `end`.

    Args:
        initial: η₀ >= 0.
        decay_rate: r, 0 < r <= 1.
        decay_steps: s >= 1, in steps.
        staircase: Whether the rate is constant between multiples of s. Structural.
        end: η_end, 0 <= η_end <= η₀.

    Raises:
        ValueError: If an argument is out of its range.

    >>> schedule = exponential_decay(
    ...     0.8, decay_rate=0.5, decay_steps=10, staircase=True
    ... )
    >>> [round(float(schedule(step)), 4) for step in (0, 9, 10, 20)]
    [0.8, 0.8, 0.4, 0.2]
    """
    checks.rate("initial", initial)
    checks.number("decay_rate", decay_rate, above=0, at_most=1)
    checks.steps("decay_steps", decay_steps, at_least=1)
    checks.rate("end", end)
    checks.at_most("end", end, "initial", initial)

    def rate(step):
        if staircase:
            exponent, _ = whole(step, decay_steps)
        else:
            exponent = real(step) / real(decay_steps)
        decayed = real(initial) * jnp.exp(exponent * log(decay_rate))
        return jnp.maximum(decayed, real(end))

    return as_schedule(rate)


METHOD = Method(
    {"initial": 0.8, "decay_rate": 0.8, "decay_steps": 8, "end": 0.1},
    source="Darken & Moody (1990)",
    variants=({"staircase": True},),
    over=lambda rate, total_steps: exponential_decay(
        rate, decay_rate=0.01, decay_steps=total_steps
    ),
)
