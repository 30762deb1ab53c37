import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import PARAMS, as_dtype, gradients, updates_of

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, b2, eps=1e-8):
    """m ← β₁ m + (1 − β₁) g;  u ← max(β₂ u, |g| + ε);  w ← w − α m / ((1 − β₁ᵗ) u)."""
    m, u = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        u = np.maximum(b2 * u, np.abs(g) + eps)
        w = w - learning_rate / (1 - b1**t) * m / u
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.adamax",),
    optax_twin=lambda: optax.adamax(0.1, 0.8, 0.9, 1e-2),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(1000, 0.05, {"learning_rate": 0.003}),
    },
)


def test_the_first_step_is_as_long_as_the_rate_whatever_the_gradient():
    (updates,) = updates_of(adaptax.adamax(0.1, eps=0.0), gradients(1))
    for leaf in jax.tree.leaves(updates):
        np.testing.assert_allclose(np.abs(leaf), 0.1, rtol=1e-6)


def test_a_large_gradient_shortens_the_steps_until_it_has_decayed():
    direction = adaptax.scale_by_adamax(b1=0.0)
    sizes = np.float32([100.0, *[1.0] * 2000])
    _, updates = jax.lax.scan(
        lambda state, g: direction.update(g, state)[::-1],
        direction.init(jnp.zeros(())),
        jnp.asarray(sizes),
    )
    np.testing.assert_allclose(updates[1000], 0.01 * 0.999**-1000, rtol=1e-3)
    np.testing.assert_allclose(updates[2000], 0.01 * 0.999**-2000, rtol=1e-3)


def test_half_precision_is_computed_in_float32_and_rounded_once():
    narrow = [as_dtype(gradient, jnp.bfloat16) for gradient in gradients()]
    wide = [as_dtype(gradient, jnp.float32) for gradient in narrow]
    direction = adaptax.scale_by_adamax()
    in_half = updates_of(direction, narrow, as_dtype(PARAMS, jnp.bfloat16))
    expected = as_dtype(updates_of(direction, wide), jnp.bfloat16)
    chex.assert_trees_all_equal(in_half, expected)
