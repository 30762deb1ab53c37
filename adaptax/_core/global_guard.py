"""Functions shared by methods with scalars computed from all gradients.

A gradient that is not finite would spoil every such scalar, and through it every leaf.
So a step counts as a whole or not at all: one whose gradient norm is not finite, or
1e15 or more, changes nothing but a counter.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core import scalars
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.leaves import global_norm, is_placeholder, is_trained, real_dtype

_LARGEST_NORM = 1e15  # `by_coordinate` ignores elements from 1.8e15 on


def is_usable(updates: optax.Updates) -> jax.Array:
    """Return whether the norm of the gradients is finite and not absurdly large."""
    return global_norm(updates) < _LARGEST_NORM  # false for NaN


def has_begun(updates: optax.Updates, total: jax.Array) -> jax.Array:
    """Return whether this gradient or an earlier one, summed in `total`, is not 0."""
    return (global_norm(updates) > 0) | (total > 0)


def grown(distance: jax.Array, estimate: jax.Array, growth: Scalar | None) -> jax.Array:
    """Return max(d, min(d̂, G d)), or without a growth G, max(d, d̂)."""
    if growth is not None:
        estimate = jnp.minimum(estimate, distance * scalars.real(growth))
    return jnp.maximum(distance, estimate)


def new_if_finite(condition: jax.Array, new: Any, old: Any) -> Any:
    """Return the new scalars where the condition holds and they are finite."""
    return tuple(
        jnp.where(condition & jnp.isfinite(one), one, other)
        for one, other in zip(new, old, strict=True)
    )


def preconditioned(tree: Any, mean_sq: Any, eps: Scalar) -> Any:
    """Divide the trained leaves of a tree by √v + ε."""

    def leaf(own, square):
        if not is_trained(own):
            return own
        divisor = root(square.astype(real_dtype(own.dtype)))
        return divide(own, divisor + jnp.asarray(eps).astype(divisor.dtype))

    return jax.tree.map(leaf, tree, mean_sq, is_leaf=is_placeholder)


def adam_correction(b1: Scalar, b2: Scalar, step: jax.Array) -> jax.Array:
    """Return √(1 − β₂ᵗ) / (1 − β₁ᵗ), Adam's bias correction, for t >= 1."""
    return jnp.sqrt(unbiased_part(b2, step)) / unbiased_part(b1, step)


def unbiased_part(factor: Scalar, step: jax.Array) -> jax.Array:
    """Return 1 − βᵗ without cancellation."""
    return -jnp.expm1(step.astype(jnp.float32) * scalars.log(factor))
