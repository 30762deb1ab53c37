"""Polynomial: the rate approaches its end value as a power of the remaining steps.

    η_t = η_end + (η₀ − η_end) (1 − min(t/T, 1))^p

Source: Chen et al. (2017), "DeepLab: Semantic Image Segmentation with Deep
Convolutional Nets, Atrous Convolution, and Fully Connected CRFs" (the "poly" policy, p
= 0.9, from Caffe).
"""

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between
from adaptax.schedules.periods import elapsed


@translating
def polynomial(
    initial: Scalar, *, total_steps: Scalar, power: Scalar, end: Scalar = 0.0
) -> Schedule:
    """Change from one rate to another as a power of the remaining steps.

    The rate is `initial` at step 0 and `end` from step T on.

    Args:
        initial: η₀ >= 0.
        total_steps: T >= 1, in steps.
        power: p > 0. 1 is `linear`; with p > 1 the rate falls fastest at the start,
            with p < 1 at the end.
        end: η_end >= 0; greater than η₀ for a rise.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("initial", initial)
    checks.steps("total_steps", total_steps, at_least=1)
    checks.number("power", power, above=0)
    checks.rate("end", end)

    def rate(step):
        left = 1 - elapsed(step, 0, total_steps)
        # A power at 0 has no finite gradient, so there 1 is raised instead.
        raised = jnp.where(left > 0, left, 1) ** real(power)
        return between(end, initial, jnp.where(left > 0, raised, 0))

    return as_schedule(rate)


METHOD = Method(
    {"initial": 0.8, "total_steps": 40, "power": 0.9, "end": 0.1},
    source="Chen et al. (2017)",
    over=lambda rate, total_steps: polynomial(rate, total_steps=total_steps, power=2.0),
)
