import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import as_dtype, gradients, updates_of

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root, threshold):
    """w ← w − α r m̂ / (√(v̂ + ε₀) + ε) where ρ >= threshold, else w ← w − α m̂."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    longest = 2 / (1 - b2) - 1
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        step = m / (1 - b1**t)
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length >= threshold:
            above = (length - 4) * (length - 2) * longest
            below = (longest - 4) * (longest - 2) * length
            v_hat = v / (1 - b2**t)
            step = np.sqrt(above / below) * step / (np.sqrt(v_hat + eps_root) + eps)
        w = w - learning_rate * step
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.radam",),
    optax_twin=lambda: optax.radam(0.1, 0.8, 0.9, 1e-6, 1e-7, 5.5),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.03}),
        "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
    },
)


def rectification(b2, t):
    longest = 2 / (1 - b2) - 1
    length = longest - 2 * t * b2**t / (1 - b2**t)
    above = (length - 4) * (length - 2) * longest
    return np.sqrt(above / ((longest - 4) * (longest - 2) * length))


@pytest.mark.parametrize("b2", [0.9, 0.999, 0.9999])
@pytest.mark.parametrize("t", [7, 1000, 100_000])
def test_in_float32_it_is_adam_times_the_rectification(b2, t):
    states = [
        direction.init(np.float32(0))._replace(
            step=jnp.asarray(t - 1, jnp.int32), mean=np.float32(1)
        )
        for direction in (adaptax.scale_by_radam(b2=b2), adaptax.scale_by_adam(b2=b2))
    ]
    ours, _ = adaptax.scale_by_radam(b2=b2).update(np.float32(2), states[0])
    adams, _ = adaptax.scale_by_adam(b2=b2).update(np.float32(2), states[1])
    true = float(np.float32(b2))  # the number that is at hand
    np.testing.assert_allclose(ours / adams, rectification(true, t), rtol=2e-5)


def test_the_first_steps_are_along_the_mean_gradient():
    direction = adaptax.scale_by_radam()
    state = direction.init(np.float32(0))
    for size in (3, -1, 7, 2, 9):
        update, state = direction.update(np.float32(size), state)
        assert update == state.mean
    update, state = direction.update(np.float32(4), state)
    assert abs(update) < 0.1 * abs(state.mean)


def test_with_few_gradients_to_average_over_it_never_divides():
    updates = updates_of(adaptax.scale_by_radam(b1=0.0, b2=0.6), gradients(20))
    chex.assert_trees_all_close(updates, gradients(20), rtol=1e-6, atol=1e-6)


def test_a_factor_that_is_one_in_bfloat16_does_no_harm():
    direction = adaptax.scale_by_radam(b2=jnp.asarray(0.999, jnp.bfloat16))
    given = [as_dtype(gradient, jnp.bfloat16) for gradient in gradients(8)]
    chex.assert_tree_all_finite(updates_of(direction, given, given[0]))


def test_the_derivative_by_b2_is_finite():
    def last(b2):
        direction = adaptax.scale_by_radam(b2=b2)
        state = direction.init(jnp.ones(()))
        update, state = direction.update(jnp.ones(()), state)
        state = state._replace(step=jnp.asarray(9, jnp.int32))
        return update + direction.update(jnp.asarray(2.0), state)[0]

    assert np.isfinite(jax.jit(jax.grad(last))(0.9))
