"""Inside of `jax.shard_map`, each device may train parameters of its own.

The types of JAX tell what varies between the devices, before anything is compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES, start
from jax.sharding import AxisType, PartitionSpec

import adaptax
from adaptax._core import varying

MESH = jax.make_mesh((8,), ("devices",), axis_types=(AxisType.Auto,))
ROWS = PartitionSpec("devices")


def on_each(function):
    """Call a function on each device with its own part of the arguments."""

    def local(*arguments):
        own = jax.tree.map(lambda leaf: leaf[0], arguments)
        return jax.tree.map(lambda leaf: leaf[None], function(*own))

    return jax.shard_map(local, mesh=MESH, in_specs=ROWS, out_specs=ROWS)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_device_may_train_parameters_of_its_own(case):
    optimizer = case.optimizer()

    def step(params, state):
        gradients, value = params, jnp.sum(params["scalar"])
        return case.update(optimizer, gradients, state, params, value, ["value"])

    def train(params):
        def one(carry, _):
            params, state = carry
            updates, state = step(params, state)
            return (optax.apply_updates(params, updates), state), None

        carry = params, optimizer.init(params)
        return jax.lax.scan(one, carry, length=2)[0][0]

    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * 8), start())
    state = jax.vmap(optimizer.init)(params)
    jax.eval_shape(on_each(train), params)
    after = jax.eval_shape(on_each(step), params, state)[1]
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_counters_of_each_coordinate_alone_stay_the_same_on_all_devices():
    optimizer = adaptax.adamw(adaptax.cosine(1e-3, 9))

    def steps(params):
        state = optimizer.init(params)
        _, state = optimizer.update(params, state, params)
        leaves = jax.tree.leaves(state)
        return jnp.stack([leaf for leaf in leaves if leaf.dtype == jnp.int32])

    local = jax.shard_map(
        steps, mesh=MESH, in_specs=ROWS, out_specs=PartitionSpec()
    )  # which JAX refuses of what may differ
    with jax.numpy_dtype_promotion("standard"):
        jax.eval_shape(local, jnp.ones(16))


@pytest.mark.parametrize(
    "make",
    [
        adaptax.prodigy,
        lambda: adaptax.gradient_descent(adaptax.dog(reps_rel=0.1)),
        lambda: adaptax.self_tuning(direction=adaptax.scale_by_lion(), d0=0.01),
    ],
)
def test_each_device_does_what_it_would_do_alone(make):
    optimizer = make()
    starts = jnp.linspace(1.0, 2.0, 8 * 3).reshape(8, 3)

    def train(params):
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(2 * params, state, params)
            params = params + updates
        return params

    together = jax.jit(on_each(train))(starts)
    alone = jax.jit(jax.vmap(train))(starts)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_both_branches_vary_as_what_they_are_given():
    def choose(x):
        constant = varying.cond(x > 0, jnp.ones_like, lambda x: jnp.zeros(()), x)
        axes = varying.axes_of(constant)
        assert axes == {"devices"}
        return varying.spread((constant, jnp.zeros(())), axes)

    jax.eval_shape(on_each(choose), jnp.ones(8))
    assert varying.axes_of(jnp.ones(3), None) == frozenset()
