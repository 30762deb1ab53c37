"""Curves from one rate to another, as functions of a fraction in [0, 1]."""

import jax
import jax.numpy as jnp

from adaptax._core.checks import Scalar
from adaptax._core.scalars import real


def between(start: Scalar, end: Scalar, part: jax.Array) -> jax.Array:
    """Interpolate linearly; exactly `start` at 0 and `end` at 1."""
    return (1 - part) * real(start) + part * real(end)


def half_cosine(part: jax.Array) -> jax.Array:
    """Rise from 0 to 1 along half a period of a cosine: ½(1 − cos πx)."""
    return 0.5 * (1 - jnp.cos(jnp.pi * part))
