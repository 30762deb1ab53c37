"""Inverse square root: the rate falls as 1/√t.

    η_t = η₀ / √(1 + α (t − w))   from step w,      η₀ t/w   before

Source: Zinkevich (2003), "Online Convex Programming and Generalized Infinitesimal
Gradient Ascent", for 1/√t; Vaswani et al. (2017), "Attention Is All You Need", for the
warm-up. Their schedule η₀ √w / √max(t, w) is `inverse_sqrt(η₀, rate=1/w,
warmup_steps=w)`.

A decay over a known number of steps T, η₀/√(1 + β t/T), is `rate=β/T`.
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.periods import elapsed, since


@translating
def inverse_sqrt(
    initial: Scalar, *, rate: Scalar = 1.0, warmup_steps: Scalar = 0
) -> Schedule:
    """Divide the rate by the root of the steps so far.

    The rate is `initial` at step `warmup_steps`; at step 0 it is 0 if there is a
    warm-up. It approaches 0.

    Args:
        initial: η₀ >= 0, the highest rate.
        rate: α >= 0; the rate falls to η₀/√2 after 1/α steps.
        warmup_steps: w >= 0, the steps of a linear rise from 0.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.number("rate", rate, at_least=0)
    checks.steps("warmup_steps", warmup_steps)

    def decayed(step):
        after = real(since(step, warmup_steps))
        highest = real(initial) * elapsed(step, 0, warmup_steps)
        return highest / jnp.sqrt(1 + real(rate) * after)

    return as_schedule(decayed)


METHOD = Method(
    {"initial": 0.8, "rate": 0.1, "warmup_steps": 10},
    source="Vaswani et al. (2017)",
    differs="Optax has no inverse square root.",
    over=lambda rate, total_steps: inverse_sqrt(rate, rate=20 / total_steps),
)
