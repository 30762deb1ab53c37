"""Curves from one rate to another, as functions of a fraction in [0, 1]."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp

from adaptax._core.checks import Scalar
from adaptax._core.scalars import real

Fall = Literal["linear", "cosine", "mirror_cosine", "sqrt", "square", "exponential"]
"""The shapes of a cool-down; see `warmup_stable_decay` for their equations."""

_LOG_LAST = math.log(0.01)


def between(start: Scalar, end: Scalar, part: jax.Array) -> jax.Array:
    """Interpolate linearly; exactly `start` at 0 and `end` at 1."""
    return (1 - part) * real(start) + part * real(end)


def half_cosine(part: jax.Array) -> jax.Array:
    """Rise from 0 to 1 along half a period of a cosine: ½(1 − cos πx)."""
    return 0.5 * (1 - jnp.cos(jnp.pi * part))


def _sqrt(x):
    # The root has no finite gradient at 0.
    return jnp.where(x > 0, 1 - jnp.sqrt(jnp.where(x > 0, x, 1)), 1)


def _falling(
    shape: Callable[[jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
    return lambda part: jnp.clip(jnp.where(part < 1, shape(part), 0), 0, 1)


FALLS: Mapping[Fall, Callable[[jax.Array], jax.Array]] = {
    "linear": _falling(lambda x: 1 - x),
    "cosine": _falling(lambda x: 1 - half_cosine(x)),
    "mirror_cosine": _falling(lambda x: 2 * (1 - x) - (1 - half_cosine(x))),
    "sqrt": _falling(_sqrt),
    "square": _falling(lambda x: 1 - x * x),
    "exponential": _falling(
        lambda x: 1 - jnp.expm1(x * _LOG_LAST) / jnp.expm1(_LOG_LAST)
    ),
}
"""What is left of the way at a fraction of it: from exactly 1 at 0 to exactly 0 at 1.

The state of `steerable` has a shape by its index, so append new ones at the end: the
checkpoints of older versions stay right.
"""
