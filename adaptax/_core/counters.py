"""Counters: int32 scalars that stop at their largest value, and do not wrap around."""

import jax
import jax.numpy as jnp
import optax


def zero() -> jax.Array:
    """Start a counter. Each is a buffer of its own, so that states can be donated."""
    return jnp.zeros((), jnp.int32)


def increment(count: jax.Array, where: bool | jax.Array = True) -> jax.Array:
    """Count one more where the condition holds."""
    return jnp.where(where, jnp.asarray(optax.safe_increment(count)), count)
