import chex
import jax
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import gradients, updates_of

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root):
    """s ← β₂ s + (1 − β₂) (g − m)² + ε₀;  w ← w − α m̂ / (√ŝ + ε)."""
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        m_hat, s_hat = m / (1 - b1**t), s / (1 - b2**t)
        w = w - learning_rate * m_hat / (np.sqrt(s_hat) + eps)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.adabelief",),
    optax_twin=lambda: optax.adabelief(0.1, 0.8, 0.99, 1e-6, 1e-7),
    goals={
        "quadratic": Goal(300, 1e-2),
        "regression": Goal(300, 0.2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.01}),
        "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.001}),
    },
)


def test_the_first_step_is_the_sign_divided_by_b1():
    direction = adaptax.scale_by_adabelief(b1=0.5, eps=0.0, eps_root=0.0)
    (update,) = updates_of(direction, gradients(1))
    expected = jax.tree.map(lambda g: 2 * np.sign(g), gradients(1)[0])
    chex.assert_trees_all_close(update, expected, rtol=1e-5)


def test_where_gradients_do_not_vary_eps_root_bounds_the_step():
    direction = adaptax.scale_by_adabelief(b1=0.5, b2=0.5, eps=0.0, eps_root=0.02)

    def step(state, _):
        update, state = direction.update(np.float32(3), state)
        return state, update

    start = direction.init(np.float32(0))
    _, path = jax.jit(lambda start: jax.lax.scan(step, start, length=60))(start)
    np.testing.assert_allclose(path[-1], 3 / np.sqrt(0.02 / (1 - 0.5)), rtol=1e-5)


def test_gradients_that_change_sign_make_shorter_steps_than_equal_ones():
    sizes = {}
    for name, signs in {"equal": [1, 1, 1, 1], "changing": [1, -1, 1, -1]}.items():
        direction = adaptax.scale_by_adabelief(b1=0.5)
        state = direction.init(np.float32(0))
        for sign in signs:
            _, state = direction.update(np.float32(sign), state)
        sizes[name] = float(state.mean_sq_error)
    assert sizes["changing"] > 4 * sizes["equal"]
