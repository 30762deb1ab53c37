"""Scaling: updates times a scalar, in their own dtypes."""

import jax
import jax.numpy as jnp
import optax

from adaptax._core.leaves import (
    computing_dtype,
    dtype_of,
    narrowed,
    times,
)


def scale_updates(updates: optax.Updates, scale: jax.Array) -> optax.Updates:
    """Multiply every real or complex leaf by a scalar, keeping its dtype.

    A product too large for the dtype is clipped to its largest number. An infinite
    update stays infinite, so that a guard around the chain can detect it.
    """

    def multiply(leaf):
        if not jnp.issubdtype(dtype_of(leaf), jnp.inexact):
            return leaf
        dtype = dtype_of(leaf)
        wide = computing_dtype(dtype)
        product = times(jnp.asarray(leaf).astype(wide), scale)
        if wide == dtype:
            return product
        return jnp.where(
            jnp.isinf(leaf), product.astype(dtype), narrowed(product, dtype)
        )

    return jax.tree.map(multiply, updates)


def negate(updates: optax.Updates, params: optax.Params | None) -> optax.Updates:
    """Negate real and complex updates, for `optax.stateless`."""
    del params
    return jax.tree.map(
        lambda leaf: -leaf if jnp.issubdtype(dtype_of(leaf), jnp.inexact) else leaf,
        updates,
    )
