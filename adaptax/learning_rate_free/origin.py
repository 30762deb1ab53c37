"""The origin: a copy of the parameters where training starts.

    x₀ = the parameters at the first step

Methods that measure how far training has gone need it. It is taken at the first step
rather than by `init`, so that `init` needs shapes alone, the state shares no buffer
with the parameters and both can be donated from the first step on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax.leaves import (
    computing_dtype,
    dtype_of,
    is_placeholder,
    is_trained,
    require_trainable,
)


def sliced(tree: Any, every: int) -> Any:
    """Take one element in so many of each trained leaf, flattened unless it is each."""
    if every == 1:
        return tree
    return jax.tree.map(
        lambda leaf: (
            jnp.reshape(jnp.asarray(leaf), -1)[::every] if is_trained(leaf) else leaf
        ),
        tree,
        is_leaf=is_placeholder,
    )


def empty(params: optax.Params) -> Any:
    """Make room for a copy of the trained leaves, in their own dtypes."""
    require_trainable(params)

    def leaf(param):
        if not is_trained(param):
            return optax.MaskedNode()
        return jnp.full_like(param, 0, dtype_of(param))

    return jax.tree.map(leaf, params)


def taken(first: jax.Array, params: optax.Params, origin: Any) -> Any:
    """Copy the parameters into the room for them where this is the first step."""

    def leaf(copy, param):
        if not is_trained(copy) or not is_trained(param):
            return copy
        return jnp.where(first, jnp.asarray(param).astype(dtype_of(copy)), copy)

    return jax.tree.map(leaf, origin, params, is_leaf=is_placeholder)


def way_back(origin: Any, params: optax.Params) -> Any:
    """Give x₀ − x, in float32 at least; what is not trained stays as it is."""

    def leaf(copy, param):
        if not is_trained(copy) or not is_trained(param):
            return copy
        wide = computing_dtype(dtype_of(copy), dtype_of(param))
        return jnp.asarray(copy).astype(wide) - jnp.asarray(param).astype(wide)

    return jax.tree.map(leaf, origin, params, is_leaf=is_placeholder)
