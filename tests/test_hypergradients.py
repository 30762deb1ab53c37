"""Derivatives go through the updates of the whole catalogue, and are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES, start


@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivatives_through_the_steps_are_finite(case):
    optimizer = case.optimizer()

    def reached(scale, params, size):
        def loss(params):
            squares = jax.tree.map(lambda x: jnp.sum(x * x), params)
            return scale * sum(jax.tree.leaves(squares)) / 2

        state = optimizer.init(params)
        for _ in range(2):
            gradients = jax.tree.map(lambda x: size * scale * x, params)
            value = loss(params)
            updates, state = case.update(optimizer, gradients, state, params, value)
            params = optax.apply_updates(params, updates)
        return loss(params)

    derivative = jax.jit(jax.grad(reached, (0, 1)))
    for size in (1.0, 0.0):  # gradients of 0 are where roots have no derivative
        for leaf in jax.tree.leaves(derivative(0.3, start(), size)):
            assert np.isfinite(leaf).all(), size
