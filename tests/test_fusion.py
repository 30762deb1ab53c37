"""Fusion: what is computed apart is the same, and is not computed again by all."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.fusion import apart


def test_the_result_and_its_derivative_are_those_of_the_function():
    def ours(x):
        return apart(jnp.sum, x**2)

    x = jnp.arange(3.0)
    assert jax.jit(ours)(x) == 5
    np.testing.assert_array_equal(jax.grad(ours)(x), 2 * x)
    np.testing.assert_array_equal(jax.vmap(ours)(jnp.stack([x, 2 * x])), [5, 20])


@pytest.mark.parametrize(
    "make", [adaptax.prodigy, lambda: adaptax.monitor(adaptax.adam(0.1))]
)
def test_the_work_for_a_leaf_does_not_grow_with_the_number_of_leaves(make):
    def bytes_for_a_leaf(leaves):
        tx, params = make(), [jnp.ones(4)] * leaves

        def step(params, state):
            updates, state = tx.update(params, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(step).lower(params, tx.init(params)).compile()
        return compiled.cost_analysis()["bytes accessed"] / leaves

    assert bytes_for_a_leaf(36) < 1.3 * bytes_for_a_leaf(12)
