"""Averages of the points that an optimizer passes through."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum, momentum_of_optax

import adaptax


def reference(w, gradients, values, *, learning_rate, gamma, decay=None):
    """Watch only; see `averages_of_iterates` for what is evaluated."""
    del gamma, decay
    return Momentum(w, learning_rate).along(gradients)


def averages_of_iterates(points, *, gamma, decay=None):
    """Average the points so far with the weights that each average gives them."""
    for t in range(1, len(points) + 1):
        if decay is not None:
            weights = decay ** np.arange(t)[::-1]
        else:
            weights = np.ones(t)
            for s in range(t):  # what is left of a point after the later ones
                weights[s] = (1 + gamma) / (s + 1 + gamma)
                weights[:s] *= 1 - weights[s]
        yield weights @ points[:t] / weights.sum()


CONTRACT = Contract(
    reference,
    optax_twin=momentum_of_optax,
    goals={"quadratic": Goal(200, 1e-2)},
)

POINTS = np.random.default_rng(5).normal(size=(12, 3)).astype(np.float32)
STEPS = np.diff(POINTS, axis=0)


def averages(points=POINTS, **arguments):
    optimizer = adaptax.iterate_average(optax.identity(), **arguments)
    w = jnp.asarray(points[0])
    state = optimizer.init(w)
    for step in np.diff(points, axis=0):
        updates, state = optimizer.update(jnp.asarray(step), state, w)
        w = w + updates
        yield adaptax.eval_params(state, w)


@pytest.mark.parametrize("arguments", [{"gamma": 8.0}, {"gamma": 0.5}, {"decay": 0.7}])
def test_each_average_weighs_the_points_as_the_papers_do(arguments):
    expected = averages_of_iterates(POINTS[1:], **{"gamma": 8.0, **arguments})
    ours = np.stack(list(averages(**arguments)))
    np.testing.assert_allclose(ours, np.stack(list(expected)), rtol=1e-4, atol=1e-6)


def test_an_order_of_zero_is_the_plain_mean():
    *_, last = averages(gamma=0.0)
    np.testing.assert_allclose(last, POINTS[1:].mean(axis=0), rtol=1e-5)


def test_an_update_that_is_not_finite_is_left_out_of_the_average():
    optimizer = adaptax.iterate_average(optax.identity(), gamma=0.0)
    w = jnp.zeros(2)
    _, state = optimizer.update(jnp.ones(2), optimizer.init(w), w)
    _, state = optimizer.update(jnp.asarray([jnp.nan, 3.0]), state, w)
    np.testing.assert_allclose(adaptax.eval_params(state, w), [1.0, 2.0])


def test_the_average_beats_the_last_point_under_noise():
    noise = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
    optimizer = adaptax.iterate_average(adaptax.gradient_descent(0.3))

    def step(carry, one):
        w, state = carry
        updates, state = optimizer.update(w + one, state, w)
        return (w + updates, state), None

    w = jnp.zeros(20)
    (w, state), _ = jax.lax.scan(step, (w, optimizer.init(w)), noise)
    average = adaptax.eval_params(state, w)
    assert jnp.linalg.norm(average) < 0.4 * jnp.linalg.norm(w)
