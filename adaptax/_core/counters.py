"""Counters: int32 scalars that stop at their largest value instead of wrapping."""

import jax
import jax.numpy as jnp
import optax


def zero() -> jax.Array:
    """Return a new counter, in a buffer of its own, so that states can be donated."""
    return jnp.zeros((), jnp.int32)


def increment(count: jax.Array, where: bool | jax.Array = True) -> jax.Array:
    """Add 1 where the condition holds."""
    return jnp.where(where, jnp.asarray(optax.safe_increment(count)), count)
