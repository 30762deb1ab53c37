"""The parameters to evaluate with are found at any depth."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from steps import PARAMS, as_dtype, gradients

import adaptax


@pytest.fixture(autouse=True)
def _as_optax_promotes():
    """Optax's MultiSteps and inject_hyperparams rely on implicit promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def averaging(learning_rate=0.5):
    return adaptax.iterate_average(adaptax.gradient_descent(learning_rate))


def averaged_momentum(learning_rate):
    return adaptax.iterate_average(adaptax.gradient_descent(learning_rate))


def run(optimizer, given, params=PARAMS):
    optimizer = optax.with_extra_args_support(optimizer)
    state = optimizer.init(params)
    for gradient in given:
        updates, state = optimizer.update(gradient, state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    return params, state


def expected_average(given):
    """Write the polynomial average of gradient descent down from its definition."""
    w, mean = PARAMS, PARAMS
    for t, gradient in enumerate(given, start=1):
        w = jax.tree.map(lambda x, g: x - np.float32(0.5) * g, w, gradient)
        share = np.float32(9 / (t + 8))
        mean = jax.tree.map(lambda m, x, c=share: (1 - c) * m + c * x, mean, w)
    return mean


AROUND = {
    "alone": lambda: averaging(),
    "chain": lambda: optax.chain(optax.clip(1e3), optax.chain(averaging())),
    "masked": lambda: optax.masked(averaging(), dict.fromkeys(PARAMS, True)),
    "inject_hyperparams": lambda: optax.inject_hyperparams(averaged_momentum)(
        learning_rate=0.5
    ),
    "apply_if_finite": lambda: optax.apply_if_finite(averaging(), 3),
    "monitor": lambda: adaptax.monitor(averaging()),
    "reject_increase": lambda: adaptax.reject_increase(averaging()),
    "partition": lambda: optax.partition(
        {"one": averaging(), "other": averaging()}, {"matrix": "one", "scalar": "other"}
    ),
    "averaged once more": lambda: adaptax.iterate_average(averaging()),
}


@pytest.mark.parametrize("around", AROUND)
def test_the_average_is_found_inside(around):
    given = gradients(3)
    params, state = run(AROUND[around](), given)
    found = adaptax.eval_params(state, params)
    chex.assert_trees_all_close(found, expected_average(given), rtol=1e-5)


@pytest.mark.parametrize("several", ["MultiSteps", "accumulate"])
def test_the_average_is_found_inside_what_takes_several_batches_to_a_step(several):
    given = gradients(3)
    twice = [gradient for gradient in given for _ in range(2)]
    wraps = {"MultiSteps": optax.MultiSteps, "accumulate": adaptax.accumulate}
    optimizer = wraps[several](averaging(), 2)
    if several == "MultiSteps":  # which hands no extra arguments on
        optimizer = optax.GradientTransformation(optimizer.init, optimizer.update)
    params, state = run(optimizer, twice)
    found = adaptax.eval_params(state, params)
    chex.assert_trees_all_close(found, expected_average(given), rtol=1e-5)


def test_the_parameters_themselves_are_evaluated_where_nothing_else_asks():
    params, state = run(adaptax.adam(0.1), gradients(2))
    assert adaptax.eval_params(state, params) is params


def test_before_the_first_step_the_parameters_themselves_are_evaluated():
    found = adaptax.eval_params(averaging().init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(found, PARAMS)


def test_a_group_without_an_average_is_evaluated_where_it_is():
    labels = {"matrix": "averaged", "scalar": "plain"}
    groups = {"averaged": averaging(), "plain": adaptax.gradient_descent(0.5)}
    given = gradients(3)
    params, state = run(optax.partition(groups, labels), given)
    found = adaptax.eval_params(state, params)
    expected = expected_average(given)["matrix"]
    np.testing.assert_allclose(found["matrix"], expected, rtol=1e-5, atol=1e-6)
    assert found["scalar"] == params["scalar"]


def test_a_mask_may_hide_a_whole_subtree():
    params = {"layer": {"w": jnp.ones(2), "b": jnp.zeros(2)}, "head": jnp.ones(3)}
    labels = {"layer": "one", "head": "other"}
    optimizer = optax.partition({"one": averaging(), "other": averaging()}, labels)
    params, state = run(optimizer, [params, params], params)
    found = adaptax.eval_params(state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, params)
    assert not np.allclose(found["layer"]["w"], params["layer"]["w"])


def test_masks_side_by_side_share_the_leaves_out():
    one, other = ({"matrix": x, "scalar": not x} for x in (True, False))
    chain = optax.chain(
        optax.masked(averaging(), one), optax.masked(averaging(), other)
    )
    given = gradients(2)
    params, state = run(chain, given)
    found = adaptax.eval_params(state, params)
    chex.assert_trees_all_close(found, expected_average(given), rtol=1e-5)


def test_two_averages_of_one_leaf_side_by_side_are_refused():
    chain = optax.chain(averaging(), adaptax.iterate_average(optax.identity()))
    params, state = run(chain, gradients(1))
    with pytest.raises(
        ValueError,
        match=r"side by side both have evaluation parameters for params\['matrix'",
    ):
        adaptax.eval_params(state, params)


def test_what_is_evaluated_has_the_dtype_of_the_parameters():
    params = as_dtype(PARAMS, jnp.bfloat16)
    given = [as_dtype(gradient, jnp.bfloat16) for gradient in gradients(2)]
    params, state = run(averaging(), given, params)
    found = adaptax.eval_params(state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, params)
    assert state.average["matrix"].dtype == jnp.float32


def test_a_linen_train_state_is_evaluated_at_its_average():
    state = TrainState.create(apply_fn=None, params=PARAMS, tx=averaging())
    given = gradients(3)
    for gradient in given:
        state = state.apply_gradients(grads=gradient)
    found = jax.jit(adaptax.eval_params)(state.opt_state, state.params)
    chex.assert_trees_all_close(found, expected_average(given), rtol=1e-5)
    found = adaptax.eval_params(state, state.params)
    chex.assert_trees_all_close(found, expected_average(given), rtol=1e-5)


def test_an_nnx_optimizer_is_evaluated_at_its_average():
    network = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    bare = nnx.to_pure_dict(nnx.state(network, nnx.Param))
    optimizer = nnx.Optimizer(network, averaging(), wrt=nnx.Param)
    ones = jax.tree.map(jnp.ones_like, nnx.state(network, nnx.Param))
    for _ in range(2):
        optimizer.update(network, ones)
    found = adaptax.eval_params(optimizer, nnx.state(network, nnx.Param))
    expected = jax.tree.map(lambda x: x - 0.5 - 0.9 * 0.5, bare)
    chex.assert_trees_all_close(nnx.to_pure_dict(found), expected, rtol=1e-5)
    nnx.update(network, found)
    np.testing.assert_allclose(network.bias[...], expected["bias"], rtol=1e-5)
