"""Polyak step sizes: known minima, and the names the literature has for them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from steps import minimize

import adaptax


def reference(
    w, gradients, values, *, max_rate, c, lower_bound, eps, growth, soft=False
):
    """Divide what the loss may still fall by the squared gradient."""
    cap = max_rate
    for g, value in zip(gradients, values, strict=True):
        rate = max(value - lower_bound, 0) / (c * (g @ g) + eps)
        if max_rate is not None:
            limit = cap * growth if growth else max_rate
            rate = rate * limit / (rate + limit) if soft else min(rate, limit)
        if rate > 0:
            cap = rate
        w = w - rate * g
        yield w


CONTRACT = Contract(
    reference,
    optax_forms=("optax.polyak_sgd",),
    goals={"quadratic": Goal(200, 1e-2, {"lower_bound": 0.0})},
)

G, VALUE = jnp.asarray([3.0, -4.0]), 2.0  # ‖g‖² = 25


def rate_of(controller, value=VALUE, gradient=G):
    _, state = controller.update(gradient, controller.init(gradient), value=value)
    return float(adaptax.learning_rate(state))


def test_half_a_squared_norm_is_minimized_in_one_step():
    optimizer = optax.chain(adaptax.polyak(None, c=0.5, eps=0.0), optax.scale(-1.0))
    params = jnp.asarray([3.0, -1.0, 0.5])
    update, _ = optimizer.update(
        params, optimizer.init(params), value=jnp.sum(params**2) / 2
    )
    np.testing.assert_allclose(optax.apply_updates(params, update), 0, atol=1e-6)


def test_the_step_reaches_the_bound_of_a_linear_loss():
    controller = adaptax.polyak(None, c=1.0, lower_bound=-3.0, eps=0.0)
    reached = VALUE - rate_of(controller) * 25
    assert reached == pytest.approx(-3.0, rel=1e-6)


@pytest.mark.parametrize(
    ("controller", "expected"),
    [
        (adaptax.polyak(1.0), VALUE / 12.5),
        (adaptax.polyak(0.01), 0.01),
        (adaptax.polyak(None, c=1.0, eps=0.0), VALUE / 25),
        (adaptax.polyak(3.0, eps=0.0, soft=True), 3 / (1 + 3 * 25 / (2 * VALUE))),
        (adaptax.polyak(0.1, c=1.0, eps=1e-5), VALUE / (25 + 1e-5)),
    ],
    ids=["SPS_max", "SPS_max, capped", "SPS+", "NGN", "ALI-G"],
)
def test_the_papers_step_sizes_are_settings_of_it(controller, expected):
    assert rate_of(controller) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, -1.0, -1e30])
@pytest.mark.parametrize("soft", [False, True])
def test_at_or_below_the_bound_it_stands_still(value, soft):
    assert rate_of(adaptax.polyak(soft=soft), value) == 0


@pytest.mark.parametrize("soft", [False, True])
def test_a_gradient_of_zero_gives_the_cap(soft):
    controller = adaptax.polyak(0.7, eps=0.0, soft=soft)
    assert rate_of(controller, gradient=jnp.zeros(2)) == pytest.approx(0.7)
    assert rate_of(adaptax.polyak(None, eps=0.0), gradient=jnp.zeros(2)) == 0


def test_a_smoothed_rate_grows_by_no_more_than_it_may():
    controller = adaptax.polyak(0.01, growth=1.5)
    state, rates = controller.init(G), []
    for value in (1e3, 1e3, 0.0, 1e3, 1.0):
        _, state = controller.update(G, state, value=value)
        rates.append(float(adaptax.learning_rate(state)))
    expected = [0.015, 0.0225, 0, 0.03375, 0.01 * 1.5**4]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_it_needs_no_tuning_where_the_minimum_is_known():
    curvatures = jnp.asarray([1e-2, 0.3, 1.0, 50.0])

    def run(controller):
        optimizer = adaptax.gradient_descent(controller)
        loss = lambda w: jnp.sum(curvatures * w * w) / 2  # noqa: E731
        return minimize(optimizer, loss, jnp.ones(4), 300)[2]

    losses = jax.jit(lambda: run(adaptax.polyak(None, c=1.0, eps=0.0)))()
    assert losses[-1] < 1e-3 * losses[0]
    assert jnp.isfinite(losses).all()
