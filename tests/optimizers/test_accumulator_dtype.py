"""What every optimizer of the catalogue keeps per coordinate, and in which dtype."""

import inspect

import jax
import jax.numpy as jnp
import pytest

from adaptax import catalog

MOMENTLESS = {"gradient_descent"}
OPTIMIZERS = [entry for entry in catalog.ENTRIES if entry.family == "optimizer"]
PARAMS = {
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
        assert not averages(jax.eval_shape(entry.make().init, PARAMS))
        return
    optimizer = entry.make(accumulator_dtype=dtype)

    def step(params):
        state = optimizer.init(params)
        return state, optimizer.update(params, state, params)

    state, (updates, after) = jax.eval_shape(step, PARAMS)
    kept = averages(state) + averages(after)
    assert len(averages(state)) >= len(PARAMS)
    assert {leaf.dtype for leaf in kept} == {jnp.dtype(dtype or jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
