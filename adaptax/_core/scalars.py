"""Hyperparameters as float32 scalars, rounded once and late."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from adaptax._core import varying
from adaptax._core.checks import Scalar

_SMALLEST = float(np.finfo(np.float32).tiny)


def real(value: Any) -> jax.Array:
    """Return a number or an array as float32."""
    if isinstance(value, int):  # maybe too large for the integers in use
        value = float(value)
    return jnp.asarray(value).astype(jnp.float32)


def known(*values: Any) -> bool:
    """Return whether none of the values, or of the members of lists, is traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def either(
    condition: jax.Array,
    then: Callable[[], Any],
    otherwise: Callable[[], Any],
    over: Any = (),
) -> Any:
    """Call one of two functions, as `jax.lax.cond`.

    Where the condition is known, outside of jit, nothing is compiled: `cond` would do
    so at every call, for functions that are made anew (measured: 0.2 s). `over` has
    what the functions read, see `adaptax._core.varying.cond`.
    """
    if known(condition):
        return then() if condition else otherwise()
    return varying.cond(condition, then, otherwise, over=over)


def precise(function: Callable[..., Any], *values: Any) -> jax.Array:
    """Compute something of hyperparameters as exactly as can be, then round to float32.

    Args:
        function: Called with a namespace (`numpy` or `jax.numpy`) and then the values.
        values: Hyperparameters. If all are known, they are taken as float64, otherwise
            as the widest float in use.
    """
    if known(*values):
        return real(function(np, *(np.asarray(value, np.float64) for value in values)))
    widest = jnp.result_type(float)
    return real(function(jnp, *(jnp.asarray(value).astype(widest) for value in values)))


def log(base: Scalar) -> jax.Array:
    """Return the natural logarithm of a hyperparameter > 0.

    0.9999 is 3e-8 off in float32, and after 100 000 steps its power would be 0.3 % off.
    So the power is `exp(exponent * log(base))`, with a logarithm taken before rounding.
    """
    return precise(lambda xp, base: xp.log(xp.maximum(base, _SMALLEST)), base)
