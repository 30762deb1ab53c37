"""Training without a schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.averaging import averaging_without_schedule
from reference.momentum import Momentum
from steps import PARAMS, gradients

import adaptax


def reference(w, gradients, values, *, learning_rate, b1, weight_power, step_power):
    """Average the points of momentum; its rate is its own, and γ is 1."""
    inner, rates = Momentum(w, 1.0), np.broadcast_to(learning_rate, len(gradients))
    points = averaging_without_schedule(
        w,
        gradients,
        lambda t, g, y: (1.0, rates[t - 1] * inner.step(g)),
        b1=b1,
        weight_power=weight_power,
        step_power=step_power,
    )
    for (point, _), rate in zip(points, rates, strict=True):
        yield point, rate


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.schedule_free",),
    steady=None,
    goals={"quadratic": Goal(400, 1e-2)},
)

TARGET = jnp.asarray([3.0, -2.0, 0.5])


def train(optimizer, steps=100, dtype=jnp.float32):
    """Go for the target ; give the end, evaluated and not."""
    optimizer, target = optax.with_extra_args_support(optimizer), TARGET.astype(dtype)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(w - target, state, w, value=1.0)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.zeros_like(target)
    (w, state), _ = jax.lax.scan(step, (w, optimizer.init(w)), length=steps)
    return w, adaptax.eval_params(state, w), state


@pytest.mark.parametrize("around", ["chain", "MultiSteps", "inject_hyperparams"])
def test_it_is_evaluated_inside_what_fails_in_optax(around):
    wraps = {
        "chain": lambda: optax.chain(optax.clip(1e3), adaptax.schedule_free_sgd(0.5)),
        "MultiSteps": lambda: optax.MultiSteps(adaptax.schedule_free_sgd(0.5), 1),
        "inject_hyperparams": lambda: optax.inject_hyperparams(
            adaptax.schedule_free_sgd, static_args="accumulator_dtype"
        )(learning_rate=0.5),
    }
    with jax.numpy_dtype_promotion("standard"):
        optimizer = wraps[around]()
        if around == "MultiSteps":
            optimizer = optax.GradientTransformation(optimizer.init, optimizer.update)
        _, evaluated, _ = train(optimizer, steps=8)
    _, expected, _ = train(adaptax.schedule_free_sgd(0.5), steps=8)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-5)


def test_without_interpolation_it_is_gradient_descent_and_the_mean_of_its_points():
    w, evaluated, _ = train(adaptax.schedule_free_sgd(0.3, b1=0.0), steps=20)
    plain = adaptax.iterate_average(adaptax.gradient_descent(0.3), gamma=0.0)
    other, mean, _ = train(plain, steps=20)
    np.testing.assert_allclose(w, other, rtol=1e-5)
    np.testing.assert_allclose(evaluated, mean, rtol=1e-5)


def test_it_is_evaluated_at_the_weighted_mean_of_the_fast_points():
    optimizer = adaptax.schedule_free_sgd(
        adaptax.linear(0.1, total_steps=4, end=0.5), weight_power=1.5, step_power=2.0
    )
    w, state, fast = PARAMS, optimizer.init(PARAMS), []
    for gradient in gradients(6):
        updates, state = optimizer.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        fast.append(state.fast["matrix"])
    rates = np.minimum(0.1 + 0.1 * np.arange(6), 0.5)
    weights = np.arange(1, 7) ** 2.0 * rates**1.5
    expected = np.tensordot(weights / weights.sum(), np.stack(fast), axes=1)
    found = adaptax.eval_params(state, w)["matrix"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_warm_up_from_zero_moves_nothing_at_first_and_does_no_harm():
    optimizer = adaptax.schedule_free_sgd(adaptax.linear(0.0, total_steps=5, end=1.0))
    updates, state = optimizer.update(TARGET, optimizer.init(TARGET), TARGET)
    assert not updates.any()
    np.testing.assert_array_equal(adaptax.eval_params(state, TARGET), TARGET)
    _, evaluated, _ = train(optimizer)
    np.testing.assert_allclose(evaluated, TARGET, rtol=0.05)


def test_the_weights_do_not_depend_on_the_unit_of_the_rate():
    def evaluated(unit):
        inner = optax.scale(-1.0 / unit)
        rate = adaptax.linear(0.1 * unit, total_steps=10, end=0.5 * unit)
        optimizer = adaptax.schedule_free(inner, rate, weight_power=4.0)
        return train(optimizer, steps=20)[1]

    np.testing.assert_allclose(evaluated(1e-12), evaluated(1.0), rtol=1e-4)


def test_the_average_does_not_stop_in_bfloat16():
    optimizer = adaptax.schedule_free_sgd(0.01)
    _, evaluated, state = train(optimizer, steps=400, dtype=jnp.bfloat16)
    _, expected, _ = train(optimizer, steps=400)
    assert state.average.dtype == jnp.float32
    assert evaluated.dtype == jnp.bfloat16
    np.testing.assert_allclose(state.average, expected, rtol=0.02)


def test_the_rate_that_is_read_is_that_of_the_fast_points():
    _, _, state = train(
        adaptax.schedule_free_adamw(adaptax.linear(1.0, total_steps=4)), steps=3
    )
    assert adaptax.learning_rate(state) == 0.5


def test_the_rate_of_the_inner_optimizer_is_read_and_set():
    optimizer = adaptax.schedule_free(adaptax.gradient_descent(0.5))
    state = adaptax.set_learning_rate(optimizer.init(TARGET), 0.25)
    updates, state = optimizer.update(TARGET, state, TARGET)
    assert adaptax.learning_rate(state) == 0.25
    np.testing.assert_allclose(updates, -0.25 * TARGET, rtol=1e-6)
