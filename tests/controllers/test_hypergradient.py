"""Hypergradient descent: a derivative, and the rates that it repairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.contracts import Contract, Goal
from steps import gradients, minimize

import adaptax


def reference(
    metrics, gradients, *, beta, initial, min_scale, max_scale, rule="multiplicative"
):
    """Raise the rate while each gradient points along the one before."""
    del metrics
    rate, previous = initial, np.zeros_like(gradients[0])
    for gradient in gradients:
        slope = gradient @ previous
        if rule == "additive":
            rate += beta * slope
        elif slope:
            norms = np.linalg.norm(gradient) * np.linalg.norm(previous)
            rate *= 1 + beta * slope / norms
        rate = min(max(rate, initial * min_scale), initial * max_scale)
        previous = gradient
        yield rate


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"initial": 0.2})},
)

CURVATURES = jnp.asarray([0.2, 0.5, 1.0])


def loss(params):
    return jnp.sum(CURVATURES * params * params) / 2


def test_its_slope_is_the_derivative_of_the_loss_by_the_rate():
    def loss_after(rate):
        return loss(first - rate * jax.grad(loss)(first))

    first = jnp.asarray([1.0, -2.0, 3.0])
    controller = adaptax.hypergradient(1e-3, 0.4, rule="additive")
    direction = jax.grad(loss)(first)
    update, state = controller.update(direction, controller.init(first))
    _, state = controller.update(jax.grad(loss)(first - update), state)
    derivative = jax.grad(loss_after)(0.4)
    slope = state.followed["gradient"].slope
    assert float(slope) == pytest.approx(-float(derivative), rel=1e-5)
    expected = 0.4 - 1e-3 * float(derivative)
    assert float(adaptax.learning_rate(state)) == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["multiplicative", "additive"])
def test_it_raises_a_rate_thirty_times_too_small(rule):
    def last(beta):
        controller = adaptax.hypergradient(beta, initial=1 / 30, rule=rule)
        optimizer = adaptax.gradient_descent(controller)
        return minimize(optimizer, loss, jnp.ones(3), 100)[2:]

    run = jax.jit(last)
    losses, rates = run(0.3)
    fixed, _ = run(0.0)
    assert rates[-1] > 10 / 30
    assert losses[-1] < 1e-3 * fixed[-1]


def test_it_lowers_a_rate_at_which_training_diverges():
    def run(beta):
        optimizer = adaptax.gradient_descent(adaptax.hypergradient(beta, initial=2.2))
        return minimize(optimizer, loss, jnp.ones(3), 100)[2]

    assert jax.jit(run)(0.05)[-1] < 1e-2
    assert jax.jit(run)(0.0)[-1] > 1e6


def test_the_multiplicative_rule_knows_no_units():
    def rates(scale):
        controller = adaptax.hypergradient()
        state = controller.init(jnp.zeros(3))
        for gradient in jnp.asarray(np.random.default_rng(0).normal(size=(6, 3))):
            _, state = controller.update(scale * gradient.astype(jnp.float32), state)
            yield adaptax.learning_rate(state)

    np.testing.assert_allclose(list(rates(1e-6)), list(rates(1e6)), rtol=1e-5)


def test_behind_adam_it_compares_the_gradient_with_adams_direction():
    direction, given = adaptax.scale_by_adam(), gradients(6)
    adam = adaptax.adam(adaptax.hypergradient(beta=0.1, initial=1.0))
    state, inner = adam.init(given[0]), direction.init(given[0])
    rate, before = 1.0, np.zeros(17)
    for gradient in given:
        _, state = adam.update(gradient, state, grad=gradient)
        step, inner = direction.update(gradient, inner)
        g, u = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            for tree in (gradient, step)
        )
        norms = np.linalg.norm(g) * np.linalg.norm(before)
        rate *= 1 + 0.1 * (g @ before / norms if norms else 0)
        before = u
        assert float(adaptax.learning_rate(state)) == pytest.approx(rate, rel=1e-5)


def test_it_stays_within_multiples_of_the_initial_rate():
    controller = adaptax.hypergradient(0.5, 0.2, min_scale=0.5, max_scale=2.0)
    state, rates = controller.init(1.0), []
    for gradient in (1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0):
        _, state = controller.update(gradient, state)
        rates.append(float(adaptax.learning_rate(state)))
    np.testing.assert_allclose(rates, [0.2, 0.3, 0.4, 0.2, 0.1, 0.1, 0.1], rtol=1e-6)


def test_a_gradient_of_zero_leaves_the_rate_as_it_is():
    controller = adaptax.hypergradient(0.5)
    state = controller.init(1.0)
    for gradient in (0.0, 1.0, 0.0, 1.0):
        _, state = controller.update(gradient, state)
        assert adaptax.learning_rate(state) == 1
