"""Wrappers that learn how far to go along an optimizer's path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from steps import PARAMS, gradients

import adaptax
from adaptax.wrappers.trac import erfi

WRAPPERS = {"mechanic": adaptax.mechanic, "trac": adaptax.trac}


@pytest.fixture(params=WRAPPERS)
def wrapper(request):
    return WRAPPERS[request.param]


def bowl(w):
    return jnp.sum(jnp.linspace(0.1, 1.0, w.size) * jnp.square(w - 1)) / 2


def train(optimizer, steps, loss=bowl):
    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        return (w + updates, state), adaptax.learning_rate(state)

    w = jnp.zeros(6)
    (w, _), rates = jax.lax.scan(step, (w, optimizer.init(w)), length=steps)
    return w, rates


def test_the_error_function_is_that_of_scipy():
    z = np.concatenate([[0.0], np.geomspace(1e-20, 9, 200)]).astype(np.float32)
    ours = jax.jit(erfi)(np.concatenate([z, -z]))
    theirs = special.erfi(z.astype(np.float64))
    np.testing.assert_allclose(ours, np.concatenate([theirs, -theirs]), rtol=5e-6)


def test_the_error_function_stays_finite():
    ours = erfi(jnp.asarray([50.0, -np.inf, 9.0]))
    np.testing.assert_array_equal(ours, ours[2] * jnp.asarray([1.0, -1.0, 1.0]))
    assert jnp.isfinite(ours).all()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_mechanic_reaches_the_minimum_whatever_the_unit_of_the_inner_one(unit):
    w, _ = train(adaptax.mechanic(adaptax.gradient_descent(unit)), 300)
    assert bowl(w) < 0.05 * bowl(jnp.zeros(6))


def test_trac_leaves_its_start_however_small_its_first_scale():
    optimizer = adaptax.trac(adaptax.gradient_descent(0.5), initial_scale=1e-8)
    w, rates = train(optimizer, 400)
    assert rates[1] < 1e-6
    assert bowl(w) < 0.1 * bowl(jnp.zeros(6))


def test_trac_goes_back_to_its_start_where_the_path_turns_out_wrong():
    optimizer = adaptax.trac(adaptax.gradient_descent(0.1), initial_scale=0.1)
    w = start = jnp.ones(3)
    state = optimizer.init(w)
    for gradient in [jnp.ones(3)] * 8 + [-jnp.ones(3)] * 8:
        updates, state = optimizer.update(gradient, state, w)
        w, before = w + updates, w
        if gradient[0] > 0:
            assert jnp.all(w <= before)
    np.testing.assert_allclose(w, start)


def test_the_first_step_moves_nothing(wrapper):
    optimizer = wrapper(adaptax.gradient_descent(1.0))
    updates, state = optimizer.update(gradients(1)[0], optimizer.init(PARAMS), PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    assert adaptax.learning_rate(state) == 0


def test_the_parameters_are_the_start_and_the_scaled_path_of_the_inner(wrapper):
    inner = adaptax.adam(adaptax.linear(1.0, total_steps=8))
    optimizer, alone = wrapper(inner, initial_scale=0.1), inner.init(PARAMS)
    w, state = PARAMS, optimizer.init(PARAMS)
    path = jax.tree.map(np.zeros_like, PARAMS)
    for gradient in gradients(5):
        step, alone = inner.update(gradient, alone, w)
        path = optax.apply_updates(path, step)
        updates, state = optimizer.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
    scale = adaptax.learning_rate(state) / adaptax.learning_rate(alone)
    for name in PARAMS:
        expected = PARAMS[name] + scale * path[name]
        np.testing.assert_allclose(w[name], expected, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_is_not_taken_by_the_inner_optimizer_either(wrapper):
    optimizer = wrapper(optax.sgd(1.0, momentum=0.9), initial_scale=0.1)
    state = optimizer.init(PARAMS)
    first, second = gradients(2)
    _, state = optimizer.update(first, state, PARAMS)
    poison = {**second, "scalar": np.float32(np.nan)}
    updates, after = optimizer.update(poison, state, PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    assert after.skipped == 1
    for kept, before in zip(*map(jax.tree.leaves, (after[2:], state[2:])), strict=True):
        np.testing.assert_array_equal(kept, before)


def test_a_steadily_downhill_path_gives_trac_the_scale_of_its_equation():
    optimizer = adaptax.trac(optax.scale(-1.0), initial_scale=0.01, betas=(0.9,))
    w, state = jnp.zeros(()), optimizer.init(jnp.zeros(()))
    for _ in range(3):
        updates, state = optimizer.update(jnp.ones(()), state, w)
        w = w + updates
    # h = 0, −1, −2, so that σ = 0.9 + 2 and v = 0.81 + 4
    wanted = 0.01 * special.erfi(2.9 / np.sqrt(2 * 4.81)) / special.erfi(np.sqrt(0.5))
    np.testing.assert_allclose(state.tuner.learning_rate, wanted, rtol=1e-5)
