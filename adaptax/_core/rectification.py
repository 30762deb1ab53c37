"""Rectification: how reliable a moving average of squared gradients is.

    ρ_t = ρ∞ − 2t βᵗ/(1 − βᵗ),   ρ∞ = 2/(1 − β) − 1
    r_t = √[(ρ_t − 4)(ρ_t − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ_t)]

ρ_t is about the number of gradients in the average, t = 1, 2, …. As ρ_t falls to 4, the
variance of Adam's step grows without bound, and r_t falls to 0.

Source: Liu et al. (2020), "On the Variance of the Adaptive Learning Rate and Beyond",
ICLR.
"""

import jax
import jax.numpy as jnp

from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root


def rectification(b2: Scalar, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return ρ, and r where ρ >= 4.

    The formula above subtracts numbers near ρ∞: in float32, with β₂ = 0.9999, ρ = 5 is
    off by 0.002. With L = −ln β₂ and C(x) = coth x − 1/x, it is the same as
    ρ = t + C(L/2) − t C(tL/2), and 1/ρ∞ = tanh(L/2).
    """
    real = jnp.result_type(float)
    b2, t = jnp.asarray(b2).astype(real), step.astype(real)
    half = -jnp.log(jnp.maximum(b2, jnp.finfo(real).tiny)) / 2
    length = t + _coth_remainder(half) - t * _coth_remainder(t * half)
    u = jnp.tanh(half)  # 1/ρ∞
    enough = jnp.maximum(length, 4)
    variance = divide(u, (1 - 4 * u) * (1 - 2 * u)) * (enough - 4) * (enough - 2)
    return length, root(variance / enough)


def _coth_remainder(x: jax.Array) -> jax.Array:
    """Return coth x − 1/x for x >= 0, by its series where the terms nearly cancel."""
    small = x < 0.3
    square = jnp.where(small, x * x, 0)
    factors = (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875)
    series = jnp.zeros_like(x)
    for factor in reversed(factors):
        series = series * square + factor
    large = jnp.where(small, 1, x)
    return jnp.where(small, series * x, 1 / jnp.tanh(large) - 1 / large)
