"""Periods of steps: the elapsed fraction of one, and the number of whole ones.

    elapsed(t, a, b) = (t − a)/(b − a) within [0, 1]
    since(t, a) = max(t − a, 0)
    whole(t, k) = ⌊t/k⌋ and t − k⌊t/k⌋

If steps and lengths are integers, they are subtracted and divided as integers, which is
always exact. Otherwise they are converted to float32, which is exact up to 2²⁴.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import Scalar
from adaptax._core.scalars import real


def elapsed(step: jax.Array, start: Scalar, end: Scalar) -> jax.Array:
    """Return the elapsed fraction, in [0, 1], of the span from `start` to `end`.

    It is exactly 1 from the end on, even if the span is empty.
    """
    step, start, end = real(step), real(start), real(end)
    length = jnp.where(end > start, end - start, 1)
    part = jnp.clip((jnp.minimum(step, end) - start) / length, 0, 1)
    return jnp.where(step < end, part, 1)


def since(step: jax.Array, start: Scalar) -> jax.Array:
    """Return the number of steps since `start`, at least 0."""
    if not integral(step, start):
        return jnp.maximum(real(step) - real(start), 0)
    step, start = as_integer(step), as_integer(start)
    # With a negative start, the subtraction must not overflow.
    step = jnp.minimum(step, jnp.iinfo(step.dtype).max + jnp.minimum(start, 0))
    return jnp.maximum(step - start, 0)


def whole(step: jax.Array, period: Scalar) -> tuple[jax.Array, jax.Array]:
    """Return the number of whole periods, and the steps since the last one ended.

    The quotient is corrected by its remainder, because XLA multiplies by 1/period
    instead of dividing, and 41 · (1/41) < 1.
    """
    if integral(step, period):
        step, period = as_integer(step), as_integer(period)
        count = step // jnp.maximum(period, 1)
        return real(count), real(step - count * period)
    step, period = real(step), real(period)
    count = jnp.floor(step / period)
    rest = step - count * period
    count = count + real(rest >= period) - real(rest < 0)
    return count, jnp.clip(step - count * period, 0, period)


def total(*lengths: Scalar) -> Any:
    """Return the sum of lengths: exact if all are of an integer type."""
    if all(isinstance(length, int) for length in lengths):
        return sum(lengths)
    return sum(map(as_integer if integral(*lengths) else real, lengths))


def integral(*values: Any) -> bool:
    """Return whether all values are of an integer type."""
    return all(jnp.issubdtype(jnp.result_type(value), jnp.integer) for value in values)


def as_integer(value: Any) -> jax.Array:
    """Return whole numbers in JAX's default integer type, clipped to its range."""
    kind = jnp.result_type(int)
    if isinstance(value, int | np.integer | np.ndarray):
        limit = int(jnp.iinfo(kind).max)
        value = np.clip(value, -limit, limit).astype(kind)
    return jnp.asarray(value).astype(kind)
