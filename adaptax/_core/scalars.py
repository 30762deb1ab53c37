"""Hyperparameters as float32 scalars, rounded once at the end of a computation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from adaptax._core import varying
from adaptax._core.checks import Scalar, require

_SMALLEST = float(np.finfo(np.float32).tiny)


def real(value: Any) -> jax.Array:
    """Return a number or an array as float32."""
    if isinstance(value, int):  # may be too large for JAX's default integers
        value = float(value)
    return jnp.asarray(value).astype(jnp.float32)


def known(*values: Any) -> bool:
    """Return whether no leaf of the values is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def either(
    condition: jax.Array,
    then: Callable[[], Any],
    otherwise: Callable[[], Any],
    over: Any = (),
) -> Any:
    """Call one of two functions, as `jax.lax.cond`.

    Outside jit the condition is known, and nothing is compiled: `cond` compiles newly
    defined functions at every call (measured: 0.2 s). `over` contains the arrays that
    the functions close over, see `adaptax._core.varying.cond`.
    """
    if known(condition):
        return then() if condition else otherwise()
    return varying.cond(condition, then, otherwise, over=over)


def precise(function: Callable[..., Any], *values: Any) -> jax.Array:
    """Compute a function of hyperparameters as precisely as possible, in float32.

    Args:
        function: Called with a namespace (`numpy` or `jax.numpy`) and then the values.
        values: Hyperparameters. They are cast to float64 if none is traced, otherwise
            to JAX's default float.
    """
    if known(*values):
        return real(function(np, *(np.asarray(value, np.float64) for value in values)))
    widest = jnp.result_type(float)
    return real(function(jnp, *(jnp.asarray(value).astype(widest) for value in values)))


def at_step(
    name: str, function: Callable[[jax.Array], Any], step: jax.Array
) -> jax.Array:
    """Return a hyperparameter that is a function of the step, in JAX's default float.

    Raises:
        TypeError: If its value is not real.
        ValueError: If its value is not a scalar.
    """
    value = jnp.asarray(function(step))
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must return a real number, got {value.dtype}.")
    require(
        value.shape == (),
        f"{name} must return a scalar, got an array of shape {value.shape}.",
    )
    return value.astype(jnp.result_type(float))


def log(base: Scalar) -> jax.Array:
    """Return the natural logarithm of a hyperparameter > 0.

    Use it for powers: `exp(exponent * log(base))`. In float32, 0.9999 is off by 3e-8,
    and its 100 000th power by 0.3 %; here the logarithm is taken before rounding.
    """
    return precise(lambda xp, base: xp.log(xp.maximum(base, _SMALLEST)), base)
