import chex
import jax
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import gradients, updates_of

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, b2, eps):
    """m ← β₁ m + (1 − β₁) clip(g / max(√v, ε), ±t^¼);  w ← w − α m; then v."""
    m, v = np.zeros_like(w), None
    for t, g in enumerate(gradients):
        if v is None:
            v = g**2
        else:
            clipped = np.clip(g / np.maximum(np.sqrt(v), eps), -(t**0.25), t**0.25)
            m = b1 * m + (1 - b1) * clipped
            w = w - learning_rate * m
            v = b2 * v + (1 - b2) * g**2
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.contrib.adopt",),
    optax_twin=lambda: optax.contrib.adopt(0.1, 0.8, 0.99, 1e-6),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
    },
)


def test_the_first_call_moves_nothing():
    (update,) = updates_of(adaptax.scale_by_adopt(), gradients(1))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(update))


def test_a_gradient_is_not_divided_by_itself():
    direction = adaptax.scale_by_adopt(b1=0.0, b2=0.0)
    ours = updates_of(direction)
    for t in range(1, 8):
        before, now = gradients()[t - 1 : t + 1]
        expected = jax.tree.map(
            lambda b, g, t=t: np.clip(g / abs(b), -(t**0.25), t**0.25), before, now
        )
        chex.assert_trees_all_close(ours[t], expected, rtol=1e-5)


def test_after_zero_gradients_the_clip_bounds_the_step():
    direction = adaptax.scale_by_adopt(b1=0.5)
    state = direction.init(np.float32(0))
    for size in (0.0, 0.0, 1e6):
        update, state = direction.update(np.float32(size), state)
    np.testing.assert_allclose(update, 0.5 * 2**0.25, rtol=1e-6)


def test_no_eps_at_all_gives_no_step_after_zero_gradients():
    direction = adaptax.scale_by_adopt(eps=0.0)
    state = direction.init(np.float32(0))
    for size in (0.0, 5.0):
        update, state = direction.update(np.float32(size), state)
    assert float(update) == 0
