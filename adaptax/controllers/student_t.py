"""Quantiles of Student's t distribution, expanded around the normal quantiles.

    t = z + (z³ + z) / (4 ν) + (5 z⁵ + 16 z³ + 3 z) / (96 ν²) + …     for ν → ∞

Source: Cornish & Fisher (1937), "Moments and Cumulants in the Specification of
Distributions"; the terms up to ν⁻⁴ as in Abramowitz & Stegun (1964), "Handbook of
Mathematical Functions", 26.7.5.
"""

import jax
import jax.numpy as jnp

from adaptax._core.checks import Scalar

_TERMS = (
    (4.0, (1.0, 1.0)),
    (96.0, (3.0, 16.0, 5.0)),
    (384.0, (-15.0, 17.0, 19.0, 3.0)),
    (92160.0, (-945.0, -1920.0, 1482.0, 776.0, 79.0)),
)
"""For each term, its divisor and its coefficients of z, z³, z⁵, …"""


def upper_quantile(tail: Scalar, freedom: int | jax.Array) -> jax.Array:
    """Return the t that is exceeded with the probability `tail`.

    The error is below 1 % from 4 degrees of freedom, for tails from 0.005 to 1/2.

    Args:
        tail: In (0, 1/2].
        freedom: ν >= 3, the degrees of freedom.

    >>> float(upper_quantile(0.025, 10))
    2.23
    """
    z = -jax.scipy.special.ndtri(jnp.asarray(tail).astype(jnp.float32))
    square, inverse = z * z, 1 / jnp.asarray(freedom).astype(jnp.float32)
    total = jnp.ones((), jnp.float32)
    for power, (divisor, coefficients) in enumerate(_TERMS, start=1):
        polynomial = jnp.zeros((), jnp.float32)
        for coefficient in reversed(coefficients):
            polynomial = polynomial * square + coefficient
        total = total + polynomial * inverse**power / divisor
    return z * total
