import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import PARAMS, as_dtype, assert_same_steps, gradients, updates_of

import adaptax


def reference(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b1,
    b2,
    eps=1e-8,
    eps_root=0.0,
    nesterov=False,
    amsgrad=False,
    weight_decay=0.0,
):
    """w ← w − α (m̂ / (√(v̂ + ε₀) + ε) + λ w), where m̂ and v̂ are debiased averages."""
    m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        largest = np.maximum(largest, v_hat)
        divisor = np.sqrt((largest if amsgrad else v_hat) + eps_root) + eps
        w = w - learning_rate * (m_hat / divisor + weight_decay * w)
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.adam", "optax.amsgrad"),
    optax_twin=lambda: optax.adam(0.1, 0.8, 0.99, 1e-6, 1e-7),
    goals={
        "quadratic": Goal(300, 1e-2),
        "regression": Goal(300, 0.2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.003}),
    },
)

HALF = [jnp.bfloat16, jnp.float16]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("arguments", [{}, {"nesterov": True}, {"amsgrad": True}])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype, arguments):
    direction = adaptax.scale_by_adam(**arguments)
    narrow = [as_dtype(gradient, dtype) for gradient in gradients()]
    wide = [as_dtype(gradient, jnp.float32) for gradient in narrow]
    in_half = updates_of(direction, narrow, as_dtype(PARAMS, dtype))
    expected = as_dtype(updates_of(direction, wide), dtype)
    chex.assert_trees_all_equal(in_half, expected)


@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
def test_the_averages_have_the_accumulators_dtype(dtype):
    direction = adaptax.scale_by_adam(amsgrad=True, accumulator_dtype=dtype)
    params = as_dtype(PARAMS, jnp.bfloat16)
    state = direction.init(params)
    for gradient in gradients(2):
        updates, state = direction.update(as_dtype(gradient, jnp.bfloat16), state)
        for leaf in jax.tree.leaves(state[1:]):
            assert leaf.dtype == (dtype or jnp.float32)
        chex.assert_trees_all_equal_dtypes(updates, params)


def test_narrow_averages_stay_close_to_wide_ones():
    narrow = updates_of(adaptax.scale_by_adam(accumulator_dtype=jnp.bfloat16))
    wide = updates_of(adaptax.scale_by_adam())
    chex.assert_trees_all_close(narrow, wide, atol=0.05)


def test_bfloat16_parameters_do_not_stop_the_second_moment_from_falling():
    sizes = np.concatenate([np.ones(10), np.full(7000, 1e-3)])
    direction = adaptax.scale_by_adam()

    def step(state, g):
        update, state = direction.update(g, state)
        return state, update

    start = jnp.zeros((), jnp.bfloat16)
    given = jnp.asarray(sizes).astype(jnp.bfloat16)
    _, updates = jax.jit(
        lambda given: jax.lax.scan(step, direction.init(start), given)
    )(given)
    path = list(
        reference(
            np.zeros(()), np.float64(given), None, learning_rate=1.0, b1=0.9, b2=0.999
        )
    )
    expected = path[-2] - path[-1]
    np.testing.assert_allclose(np.float64(updates[-1]), expected, rtol=5e-3)


def test_with_averages_of_everything_the_first_step_is_the_rate_long():
    optimizer = optax.inject_hyperparams(adaptax.adam)(learning_rate=0.125, b2=0.999)
    (gradient,) = (as_dtype(gradient, jnp.bfloat16) for gradient in gradients(1))
    (update,) = updates_of(optimizer, [gradient], as_dtype(PARAMS, jnp.bfloat16))
    expected = jax.tree.map(
        lambda g: -0.125 * jnp.sign(g).astype(jnp.float32), gradient
    )
    chex.assert_trees_all_close(as_dtype(update, jnp.float32), expected, rtol=0.01)


def test_without_averages_it_is_the_sign():
    optimizer = adaptax.adam(0.5, b1=0.0, b2=0.0, eps=0.0)
    for update, gradient in zip(updates_of(optimizer), gradients(), strict=True):
        expected = jax.tree.map(lambda g: -0.5 * np.sign(g), gradient)
        chex.assert_trees_all_close(update, expected, rtol=1e-5)


def test_nesterov_without_averages_changes_nothing():
    assert_same_steps(
        adaptax.adam(0.1, b1=0.0, nesterov=True), adaptax.adam(0.1, b1=0.0)
    )


def test_nesterov_is_nadam_as_optax_has_it():
    with jax.numpy_dtype_promotion("standard"):
        assert_same_steps(adaptax.adam(0.1, nesterov=True), optax.nadam(0.1), rtol=3e-5)


def test_amsgrad_is_that_of_optax():
    with jax.numpy_dtype_promotion("standard"):
        assert_same_steps(adaptax.adam(0.1, amsgrad=True), optax.amsgrad(0.1))


def test_amsgrad_does_not_forget_a_large_gradient():
    sizes = [100.0] + [1.0] * 200
    steps = {}
    for amsgrad in (False, True):
        direction = adaptax.scale_by_adam(b2=0.9, amsgrad=amsgrad)
        state = direction.init(np.float32(0))
        for size in sizes:
            update, state = direction.update(np.float32(size), state)
        steps[amsgrad] = float(update)
    np.testing.assert_allclose(steps[False], 1, rtol=1e-3)
    np.testing.assert_allclose(steps[True], 0.01, rtol=1e-3)


def test_the_averages_of_equal_gradients_do_not_depend_on_their_factors():
    state = adaptax.scale_by_adam().init(np.float32(0))
    for b1, b2 in [(0.9, 0.999), (0.5, 0.9), (0.99, 0.5)]:
        direction = adaptax.scale_by_adam(b1, b2)
        update, state = direction.update(np.float32(3), state)
        np.testing.assert_allclose(update, 1, rtol=1e-6)
        np.testing.assert_allclose(state.mean, 3, rtol=1e-6)


def test_the_averages_are_right_when_the_counter_is_at_its_end():
    direction = adaptax.scale_by_adam()
    last = jnp.asarray(jnp.iinfo(jnp.int32).max, jnp.int32)
    state = direction.init(np.float32(0))._replace(
        step=last, mean=jnp.float32(2.0), mean_sq=jnp.float32(4.0)
    )
    update, state = direction.update(np.float32(2), state)
    assert int(state.step) == last
    np.testing.assert_allclose(update, 1, rtol=1e-6)


def test_another_rate_or_factor_does_not_recompile():
    traces = []

    @jax.jit
    def step(hyperparameters, gradient, state):
        traces.append("traced")
        return adaptax.adam(**hyperparameters).update(gradient, state)

    (gradient,) = gradients(1)
    state = adaptax.adam(0.1).init(PARAMS)
    for rate, b1 in [(0.1, 0.9), (0.2, 0.9), (0.2, 0.5)]:
        update, state = step({"learning_rate": rate, "b1": b1}, gradient, state)
    assert len(traces) == 1
    assert float(adaptax.learning_rate(state)) == np.float32(0.2)
    chex.assert_tree_all_finite(update)
