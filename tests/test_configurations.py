"""The whole catalogue under JAX's own checks for NaNs and transfers; deep trees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.cases import CASES, start

PLAIN = [case for case in CASES if not case.variant]


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_no_nan_is_made_and_nothing_is_transferred(case):
    optimizer, params = case.optimizer(), start()
    zeros = jax.tree.map(jnp.zeros_like, params)

    def steps(params, zeros, value):
        state = optimizer.init(params)
        for gradients in (params, zeros, params):
            updates, state = case.update(optimizer, gradients, state, params, value)
        return updates, state

    arguments = jax.device_put((params, zeros, jnp.ones(())))
    program = jax.jit(steps)
    with jax.debug_nans(True):
        program(*arguments)
    with jax.transfer_guard("disallow"):
        updates, _ = program(*arguments)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_without_jit_no_operation_makes_a_nan_that_is_then_masked(case):
    optimizer, params = case.optimizer(), start()
    state = optimizer.init(params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    with jax.debug_nans(True), jax.disable_jit():
        for gradients in (zeros, params):
            _, state = case.update(optimizer, gradients, state, params, jnp.ones(()))


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_tree_of_a_thousand_levels_is_trained(case):
    tree = jnp.ones(2)
    for _ in range(1000):
        tree = [tree]
    packed = {"elementwise": True} if case.contract.regroups else {}
    optimizer = case.optimizer(**packed)

    def step(tree):
        return case.update(optimizer, tree, optimizer.init(tree), tree, jnp.ones(()))

    updates, _ = jax.eval_shape(step, tree)
    assert [leaf.shape for leaf in jax.tree.leaves(updates)] == [(2,)]
