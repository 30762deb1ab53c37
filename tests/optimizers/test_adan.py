import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance.contracts import Contract, Goal
from steps import assert_same_steps, gradients, updates_of

import adaptax


def reference(
    w, gradients, values, *, learning_rate, b1, b2, b3, eps, eps_root, weight_decay
):
    """w ← w − α ((m̂ + β₂ ŷ) / (√(v̂ + ε₀) + ε) + λ w), y the average of the changes."""
    m, y, v, before = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), None
    for t, g in enumerate(gradients, start=1):
        d = np.zeros_like(g) if before is None else g - before
        before = g
        m = b1 * m + (1 - b1) * g
        y = b2 * y + (1 - b2) * d
        v = b3 * v + (1 - b3) * (g + b2 * d) ** 2
        m_hat, y_hat, v_hat = m / (1 - b1**t), y / (1 - b2**t), v / (1 - b3**t)
        step = (m_hat + b2 * y_hat) / (np.sqrt(v_hat + eps_root) + eps)
        w = w - learning_rate * (step + weight_decay * w)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.adan",),
    goals={
        "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-4}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)


def test_where_b2_is_its_own_complement_it_is_that_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        assert_same_steps(
            adaptax.adan(0.1, b2=0.5, eps_root=1e-8, weight_decay=0.01),
            optax.adan(0.1, b2=0.5, weight_decay=0.01),
            rtol=2e-5,
        )


def test_the_change_is_weighed_by_b2():
    direction = adaptax.scale_by_adan(b1=0.0, b2=0.75, b3=0.0, eps=0.0)
    state = direction.init(np.float32(0))
    for size in (1.0, 5.0):
        update, state = direction.update(np.float32(size), state)
    change = 5.0 - 1.0
    mean_change = 0.25 * change / (1 - 0.75**2)
    expected = (5 + 0.75 * mean_change) / (5 + 0.75 * change)
    np.testing.assert_allclose(update, expected, rtol=1e-6)


def test_equal_gradients_have_no_change_to_look_ahead_to():
    (gradient,) = gradients(1)
    given = [gradient] * 6
    ours = updates_of(adaptax.scale_by_adan(b1=0.9, b3=0.999), given)
    adams = updates_of(adaptax.scale_by_adam(b1=0.9, b2=0.999), given)
    for update, adam in zip(ours, adams, strict=True):
        np.testing.assert_allclose(update["matrix"], adam["matrix"], rtol=1e-5)


def test_a_bad_gradient_counts_as_0_in_the_change_after_it_too():
    first, second = gradients(2)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), first)
    zero = jax.tree.map(jnp.zeros_like, first)
    ours = updates_of(adaptax.scale_by_adan(), [first, bad, second])
    expected = updates_of(adaptax.scale_by_adan(), [first, zero, second])
    for update, wanted in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(update["matrix"], wanted["matrix"])
