"""Stationarity: it waits while training gains, and cuts once it does not."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.contracts import Contract, Goal
from steps import minimize

import adaptax

T_QUANTILES = {3: 5.840909, 4: 4.604095, 30: 2.457262}
"""Published: upper quantiles of Student's t for 0.005, but for 0.01 with ν = 30."""


def reference(
    metrics,
    gradients,
    *,
    factor,
    significance,
    warmup,
    every,
    min_scale,
    window,
    test="sasa",
    first=None,
):
    """Test, now and then, whether training at this scale is stationary."""
    assert significance == 0.01, "the quantiles are for this one"
    scale, seen, cuts, total, kept, place = 1.0, 0, 0, 0.0, [], first

    def holds_zero(statistics):
        size = math.isqrt(len(statistics))
        batches = [
            np.mean(statistics[at : at + size])
            for at in range(0, len(statistics) - size + 1, size)
        ]
        squares = np.square(np.asarray(batches) - np.mean(statistics)).sum()
        variance = size * squares / (len(batches) - 1)
        width = T_QUANTILES[size - 1] * math.sqrt(variance / len(statistics))
        return abs(np.mean(statistics)) < width

    def sasa():
        halves = kept[: window // 2], kept[window // 2 :]
        if cuts == 0:
            return holds_zero(halves[0]) and holds_zero(halves[1])
        return holds_zero(kept) and np.mean(halves[0]) * np.mean(halves[1]) > 0

    def slope():
        steps = np.arange(window)
        line, residual = np.polynomial.polynomial.polyfit(steps, kept, 1, full=True)
        deviations = np.sum((steps - steps.mean()) ** 2)
        error = math.sqrt(residual[0][0] / (window - 2) / deviations)
        return line[1] >= -T_QUANTILES[window - 2] * error

    for step, gradient in enumerate(gradients):
        seen += 1
        if test == "sasa":
            after = place - scale * gradient
            kept.append(after @ gradient + scale / 2 * gradient @ gradient)
        elif test == "slope":
            kept.append(metrics[step])
        elif seen > max(warmup, 1):
            total += gradient @ gradients[step - 1]
        kept = kept[-window:]
        if test == "pflug":
            cut = total < 0 and seen % every == 0
        else:
            cut = seen >= window and seen % every == 0
            cut = cut and (cuts > 0 or seen > warmup)
            cut = cut and (sasa() if test == "sasa" else slope())
        if cut:
            scale, cuts = max(scale * factor, min_scale), cuts + 1
            seen, total, kept = 0, 0.0, []
        if test == "sasa":
            place = place - scale * gradient
        yield scale


CONTRACT = Contract(
    reference,
    static=frozenset({"window"}),
    variant_needs={"slope": frozenset({"value"}), "pflug": frozenset()},
    goals={"quadratic": Goal(200, 1e-2)},
)


def noisy_descent(controller, first, steps=400, rate=0.1):
    """Minimize half a square from noisy gradients; give distances and scales."""
    noise = np.random.default_rng(0).normal(size=(steps, 20)).astype(np.float32)

    def step(carry, noise):
        params, state = carry
        updates = rate * (params + noise)
        updates, state = controller.update(updates, state, params)
        params = params - updates
        return (params, state), (jnp.linalg.norm(params), adaptax.learning_rate(state))

    params = jnp.full(20, first)
    run = jax.jit(lambda p: jax.lax.scan(step, (p, controller.init(p)), noise))
    return run(params)[1]


def test_sasa_cuts_when_the_iterates_only_wander():
    controller = adaptax.stationarity(0.5, warmup=0, every=10, window=64)
    distances, scales = noisy_descent(controller, 100.0)
    first_cut = int(np.argmax(scales < 1))
    assert first_cut > 0
    assert distances[first_cut] < 2  # of √20 · √(0.1 / 1.9) = 1.03 where it wanders
    assert distances[-50:].mean() < distances[first_cut - 20 : first_cut].mean()


def test_sasa_waits_while_the_iterates_approach():
    controller = adaptax.stationarity(0.5, warmup=0, every=10, window=64)
    scales = noisy_descent(controller, 1e4, steps=120, rate=0.03)[1]
    np.testing.assert_array_equal(scales, 1)


def test_sasa_waits_for_the_warm_up():
    controller = adaptax.stationarity(0.5, warmup=300, every=10, window=64)
    scales = noisy_descent(controller, 0.0)[1]
    np.testing.assert_array_equal(scales[:300], 1)
    assert scales[-1] < 1


def test_a_gradient_of_zero_decides_nothing():
    controller = adaptax.stationarity(0.5, warmup=0, every=1, window=32)
    loss = lambda w: 0 * jnp.sum(w)  # noqa: E731
    optimizer = adaptax.gradient_descent([1.0, controller])
    rates = jax.jit(lambda: minimize(optimizer, loss, jnp.ones(3), 64)[3])()
    np.testing.assert_array_equal(rates, 1)


def slope_scales(losses, **arguments):
    controller = adaptax.stationarity(test="slope", **arguments)

    def step(state, loss):
        _, state = controller.update(jnp.ones(()), state, value=loss)
        return state, adaptax.learning_rate(state)

    losses = jnp.asarray(np.asarray(losses, np.float32))
    run = jax.jit(lambda x: jax.lax.scan(step, controller.init(()), x)[1])
    return np.asarray(run(losses))


SLOPE = {
    "factor": 0.5,
    "significance": 0.01,
    "warmup": 4,
    "every": 3,
    "min_scale": 0.1,
    "window": 32,
}


def test_the_slope_test_cuts_where_a_regression_says_so():
    random, steps = np.random.default_rng(2), np.arange(300)
    losses = np.exp(-steps / 20) + 0.05 * random.normal(size=300)
    expected = list(reference(losses, np.zeros((300, 1)), test="slope", **SLOPE))
    scales = slope_scales(losses, **SLOPE)
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
    assert 0 < np.argmax(scales < 1) < 250


@pytest.mark.parametrize("shift", [0.0, -1000.0, 1e6])
def test_a_loss_that_falls_steadily_is_never_a_reason(shift):
    falling = shift + (1 + abs(shift)) * np.linspace(1, 0, 100)
    np.testing.assert_array_equal(slope_scales(falling, **SLOPE), 1)


@pytest.mark.parametrize("level", [0.0, 1.0, -3.0, 1e38])
def test_a_constant_loss_is_a_reason(level):
    assert slope_scales(np.full(40, level), **SLOPE)[-1] == 0.5


def test_the_slope_test_listens_to_observe():
    controller = adaptax.stationarity(
        0.5, test="slope", warmup=0, every=1, window=32, monitor=None
    )
    state = controller.init(())
    for _ in range(32):
        state = controller.observe(state, 1.0)
    assert adaptax.learning_rate(state) == 0.5


def test_pflug_cuts_when_gradients_turn_back():
    controller = adaptax.stationarity(0.5, warmup=3, every=1, test="pflug")
    state, rates = controller.init(1.0), []
    for gradient in (1.0, 1.0, 1.0, 1.0, -2.0, 1.0, -1.0, 1.0, -1.0):
        _, state = controller.update(gradient, state)
        rates.append(float(adaptax.learning_rate(state)))
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_pflug_does_not_cut_while_gradients_agree():
    controller = adaptax.stationarity(0.5, warmup=0, every=1, test="pflug")
    _, scales = noisy_descent(controller, 1e4, steps=60, rate=0.01)
    np.testing.assert_array_equal(scales, 1)


def test_sasa_names_the_params_it_needs():
    controller = adaptax.stationarity()
    with pytest.raises(ValueError, match="stationarity needs the parameters"):
        controller.update(1.0, controller.init(1.0))


def test_the_smallest_scale_is_kept():
    scales = slope_scales(np.ones(300), **SLOPE)
    assert scales[-1] == np.float32(0.1)
