"""What every optimizer of the catalogue does with parameters of half precision."""

import inspect

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from steps import PARAMS, as_dtype, gradients, updates_of

from adaptax import catalog

MOMENTLESS = {"gradient_descent"}
OPTIMIZERS = [entry for entry in catalog.ENTRIES if entry.family == "optimizer"]
SHAPES = {
    "matrix": jax.ShapeDtypeStruct((8, 2), jnp.bfloat16),
    "vector": jax.ShapeDtypeStruct((3,), jnp.bfloat16),
}


def averages(state):
    return [leaf for leaf in jax.tree.leaves(state) if leaf.shape != ()]


def test_whatever_keeps_averages_lets_their_dtype_be_chosen():
    found = {
        entry.name
        for entry in OPTIMIZERS
        if "accumulator_dtype" in inspect.signature(entry.factory).parameters
    }
    assert found == {entry.name for entry in OPTIMIZERS} - MOMENTLESS


@pytest.mark.parametrize("dtype", [None, jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
def test_averages_have_the_accumulators_dtype_from_init_on(entry, dtype):
    if entry.name in MOMENTLESS:
        assert not averages(jax.eval_shape(entry.make().init, SHAPES))
        return
    optimizer = entry.make(accumulator_dtype=dtype)

    def step(params):
        state = optimizer.init(params)
        return state, optimizer.update(params, state, params)

    state, (updates, after) = jax.eval_shape(step, SHAPES)
    kept = averages(state) + averages(after)
    assert len(averages(state)) >= len(SHAPES)
    assert {leaf.dtype for leaf in kept} == {jnp.dtype(dtype or jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
def test_factors_that_round_to_one_in_bfloat16_do_no_harm(entry):
    """`optax.inject_hyperparams` rounds 0.999 to 1 when parameters are bfloat16."""
    names = {"b", "b1", "b2", "b3", "decay"}.intersection(entry.hyperparameters)
    injected = optax.inject_hyperparams(entry.factory)
    optimizer = injected(learning_rate=0.125, **dict.fromkeys(names, 0.999))
    params = as_dtype(PARAMS, jnp.bfloat16)
    given = [as_dtype(gradient, jnp.bfloat16) for gradient in gradients(8)]
    chex.assert_tree_all_finite(updates_of(optimizer, given, params))
