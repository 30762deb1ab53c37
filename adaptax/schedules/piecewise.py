"""Piecewise constant: the rate is multiplied by a factor at each of the given steps.

    η_t = η₀ · Π fᵢ over the boundaries bᵢ <= t

The rates are looked up in a table of the products, so a thousand boundaries cost as
much as one. `optax.piecewise_constant_schedule` computes the same rates with a select
for each boundary.

Source: Krizhevsky, Sutskever & Hinton (2012), "ImageNet Classification with Deep
Convolutional Neural Networks".
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import Scalar, require
from adaptax._core.methods import Method
from adaptax._core.scalars import known, precise
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.boundaries import Boundaries, passed, require_increasing


@translating
def piecewise(
    initial: Scalar,
    boundaries: Boundaries,
    factors: Sequence[Scalar] | np.ndarray | jax.Array,
) -> Schedule:
    """Multiply the rate by a factor at each boundary.

    The rate is `initial` at step 0 (unless a boundary is at 0). A new rate starts at
    the step of its boundary; the last one has no end.

    Args:
        initial: η₀ >= 0.
        boundaries: bᵢ >= 0, increasing steps. An array may be traced.
        factors: fᵢ >= 0, one for each boundary; each multiplies the previous rate.

    Raises:
        ValueError: If an argument is out of its range, the boundaries do not increase,
            or a product is too large for float32.

    >>> schedule = piecewise(1.0, boundaries=[2, 3], factors=[0.5, 0.5])
    >>> [float(schedule(step)) for step in range(5)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """
    checks.rate("initial", initial)
    require_increasing(boundaries, len(factors), "for each of the factors")
    if known(factors):
        for factor in np.asarray(factors) if hasattr(factors, "shape") else factors:
            checks.number("factors", factor, at_least=0)
    if known(initial, factors):
        highest = np.max(_products(np, initial, factors))
        require(
            highest <= np.finfo(np.float32).max,
            f"a product of initial and factors must be finite, got {highest}.",
        )

    def rate(step):
        table = precise(lambda xp, *values: _products(xp, *values), initial, factors)
        return jnp.take(table, passed(boundaries, step), mode="clip")

    return as_schedule(rate)


def _products(xp, initial, factors):
    first = xp.reshape(xp.asarray(initial), (1,))
    return xp.cumprod(xp.concatenate([first, xp.asarray(factors)]))


METHOD = Method(
    {"initial": 0.8, "boundaries": (10, 30), "factors": (0.5, 0.4)},
    source="Krizhevsky, Sutskever & Hinton (2012)",
    over=lambda rate, total_steps: piecewise(
        rate,
        (total_steps // 2, total_steps // 2 + max(total_steps // 4, 1)),
        (0.1, 0.1),
    ),
)
