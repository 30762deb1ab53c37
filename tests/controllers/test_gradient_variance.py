"""Gradient variance: estimates against known noise, and norms that explode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.contracts import Contract, Goal

import adaptax


def reference(
    metrics,
    gradients,
    *,
    decay,
    exponent,
    min_scale,
    max_scale,
    by="variance",
    micro_batches=False,
):
    """Compare signal with noise in pairs, or each norm with the average of norms.

    With micro-batches there are three, whose norms spread with the metric.
    """
    norms, signals, powers = [], [], []

    def average(values):
        weights = decay ** np.arange(len(values))[::-1]
        return weights @ np.asarray(values) / weights.sum()

    for step, gradient in enumerate(gradients):
        ratio, norm = 1.0, np.linalg.norm(gradient)
        if micro_batches:
            micro = norm * (1 + np.array([1, 2, 3]) / 8 * metrics[step])
            signals.append((3 * norm**2 - np.mean(micro**2)) / 2)
            powers.append(norm**2)
            ratio = max(average(signals), 0) / average(powers)
        elif step > 0 and by == "norm":
            ratio = average(norms) / norm
            norm = min(norm, average(norms) / min_scale)
        elif step > 0:
            pair = gradients[step - 1 : step + 1]
            mean_square, square_mean = np.mean(pair**2) * len(gradient), pair.mean(0)
            signals.append(2 * square_mean @ square_mean - mean_square)
            powers.append(mean_square)
            ratio = max(average(signals), 0) / average(powers)
        norms.append(norm)
        yield min(max(ratio**exponent, min_scale), max_scale)


CONTRACT = Contract(
    reference,
    variant_needs={True: frozenset({"micro_norms"})},
    goals={"quadratic": Goal(200, 1e-2, {"max_scale": 1.5})},
)


def scales(controller, gradients):
    def step(state, gradient):
        _, state = controller.update(gradient, state)
        return state, adaptax.learning_rate(state)

    gradients = jnp.asarray(np.asarray(gradients, np.float32))
    run = jax.jit(lambda x: jax.lax.scan(step, controller.init(x[0]), x))
    return run(gradients)


def test_it_finds_the_signal_and_the_noise_of_the_gradients():
    true, random = np.asarray([1.0, -2.0, 0.5]), np.random.default_rng(0)
    noisy = true + 3 * random.normal(size=(20_000, 3))
    controller = adaptax.gradient_variance(0.9999, min_scale=1e-3)
    state, rates = scales(controller, noisy)
    noise = state.followed["gradient"]
    assert float(noise.signal) == pytest.approx(true @ true, rel=0.1)
    assert float(noise.power - noise.signal) == pytest.approx(27, rel=0.1)
    assert float(rates[-1]) == pytest.approx(5.25 / 32.25, rel=0.1)


def test_micro_batches_give_the_trace_of_their_covariance():
    micro = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32) + 1
    controller = adaptax.gradient_variance(micro_batches=True)
    mean, norms = jnp.asarray(micro.mean(0)), jnp.linalg.norm(micro, axis=1)
    _, state = controller.update(mean, controller.init(mean), micro_norms=norms)
    noise = state.followed["gradient"]
    covariance = np.cov(micro, rowvar=False)
    variance = float(noise.power - noise.signal)
    assert variance == pytest.approx(np.trace(covariance) / 5, rel=1e-4)
    assert noise.previous is None


def test_micro_batches_without_their_norms_are_an_error():
    controller = adaptax.gradient_variance(micro_batches=True)
    with pytest.raises(TypeError, match="`micro_norms`"):
        controller.update(jnp.ones(2), controller.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="at least 2 gradients"):
        controller.update(
            jnp.ones(2), controller.init(jnp.ones(2)), micro_norms=jnp.ones(1)
        )


def test_gradients_without_noise_leave_the_rate_alone():
    _, rates = scales(adaptax.gradient_variance(), np.ones((5, 3)))
    np.testing.assert_allclose(rates, 1, rtol=1e-6)


def test_gradients_that_point_nowhere_get_the_smallest_scale():
    turning = np.resize([1.0, -1.0], (6, 1))
    _, rates = scales(adaptax.gradient_variance(min_scale=0.3), turning)
    np.testing.assert_allclose(rates, [1, *[0.3] * 5], rtol=1e-6)


def test_by_the_norm_it_goes_down_as_gradients_grow_and_up_as_they_vanish():
    controller = adaptax.gradient_variance(0.5, by="norm")
    steady = [[1.0]] * 3
    assert scales(controller, [*steady, [4.0]])[1][-1] == pytest.approx(0.25)
    assert scales(controller, [*steady, [0.25]])[1][-1] == pytest.approx(4)
    assert scales(controller, [*steady, [1e9]])[1][-1] == pytest.approx(0.1)
    assert scales(controller, [*steady, [1e-9]])[1][-1] == pytest.approx(10)


def test_the_size_of_a_scaled_step_hardly_depends_on_that_of_the_gradient():
    norms = np.asarray([1.0, 5.0, 0.2, 8.0, 0.15])[:, None]
    _, rates = scales(adaptax.gradient_variance(0.9999, by="norm"), norms)
    steps = rates * norms[:, 0]
    assert max(steps) / min(steps) < 5
    assert max(norms) / min(norms) > 50


def test_one_explosion_is_not_taken_for_the_rule():
    exploding = [*[[1.0]] * 20, [1e15], *[[1.0]] * 5]
    _, rates = scales(adaptax.gradient_variance(0.9, by="norm"), exploding)
    assert rates[20] == pytest.approx(0.1)
    assert rates[21:].max() < 2.5


def test_the_average_begins_with_the_first_gradient_that_is_not_zero():
    _, rates = scales(
        adaptax.gradient_variance(by="norm"), [[0.0], [0.0], [2.0], [1.0]]
    )
    np.testing.assert_allclose(rates, [1, 1, 1, 2], rtol=1e-6)


def test_an_exponent_softens_the_scale():
    controller = adaptax.gradient_variance(by="norm", exponent=0.5)
    assert scales(controller, [[1.0], [4.0]])[1][-1] == pytest.approx(0.5)
