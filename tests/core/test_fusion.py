"""Fusion: what is computed apart is the same, and nothing is computed or copied twice.

What is compiled for the CPU is measured, in numbers that do not depend on the machine.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax._core.fusion import apart, once


def test_the_result_and_its_derivative_are_those_of_the_function():
    def ours(x):
        return apart(jnp.sum, x**2)

    x = jnp.arange(3.0)
    assert jax.jit(ours)(x) == 5
    np.testing.assert_array_equal(jax.grad(ours)(x), 2 * x)
    np.testing.assert_array_equal(jax.vmap(ours)(jnp.stack([x, 2 * x])), [5, 20])


def test_what_is_computed_once_is_the_same_whatever_the_scalar():
    x = jnp.arange(3.0)
    for scalar in (1.0, 0.0, -1.0, jnp.nan):
        after = jnp.float32(scalar)
        np.testing.assert_array_equal(jax.jit(once)({"x": x}, after)["x"], x)
    np.testing.assert_array_equal(jax.vmap(once)(x, x), x)
    np.testing.assert_array_equal(once({"x": x})["x"], x)
    slopes = jax.grad(lambda x: once(x**2, x.sum()).sum())(x)
    np.testing.assert_array_equal(slopes, 2 * x)


def compiled_step(tx, params):
    tx = optax.with_extra_args_support(tx)

    def step(params, state, gradients, value):
        updates, state = tx.update(gradients, state, params, value=value)
        return optax.apply_updates(params, updates), state

    given = (params, tx.init(params), params, jnp.float32(1))
    return jax.jit(step, donate_argnums=(0, 1)).lower(*given).compile()


EIGHTH = 0.125  # what a sum keeps of what it adds
COPIES = {  # of the parameters, in float32
    "adam": (lambda: adaptax.adam(0.1), 0),
    "adam with bfloat16 moments": (
        lambda: adaptax.adam(0.1, accumulator_dtype=jnp.bfloat16),
        0,
    ),
    "lion": (lambda: adaptax.lion(0.1), 0.25),  # the signs, in bytes
    "prodigy": (adaptax.prodigy, 0),
    "dog": (adaptax.dog, EIGHTH),
    "dog for cleaned gradients": (
        lambda: adaptax.gradient_descent(adaptax.dog()),
        EIGHTH,
    ),
    "monitor": (lambda: adaptax.monitor(adaptax.adam(0.1)), 1),
    "reject_increase": (lambda: adaptax.reject_increase(adaptax.adam(0.1)), 2),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_step_reuses_the_memory_that_it_is_given(name, monkeypatch):
    make, copies = COPIES[name]
    size = 100_003
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # or sums are ordinary
    memory = compiled_step(make(), jnp.ones(size)).memory_analysis()
    assert memory.temp_size_in_bytes < 4 * size * (copies + 0.1)


def test_the_gradient_is_measured_once_for_all_that_read_its_norm():
    def sums(tx):
        text = compiled_step(tx, [jnp.ones(n) for n in (4000, 4001)]).as_text()
        return text.count(" reduce(")

    clipped = optax.chain(optax.clip_by_global_norm(1.0), adaptax.adam(0.1))
    alone = sums(clipped)
    assert alone == 2
    watched = sums(adaptax.monitor(clipped))
    assert watched == sums(adaptax.monitor(adaptax.adam(0.1)))


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


@pytest.mark.parametrize(
    "make",
    [
        adaptax.dog,
        adaptax.l_dog,
        adaptax.dowg,
        adaptax.prodigy,
        lambda: adaptax.schedule_free_sgd(0.1),
        lambda: adaptax.monitor(adaptax.dog()),
        lambda: adaptax.spike_guard(adaptax.dog()),
        lambda: adaptax.accumulate(adaptax.dog(), 2),
        lambda: adaptax.reject_increase(adaptax.dog()),
        lambda: adaptax.restore_best(adaptax.dog()),
    ],
)
def test_a_step_outside_of_jit_compiles_nothing_anew(make, caplog):
    """A conditional would, with functions that each call makes."""
    tx = optax.with_extra_args_support(make())
    params = {"w": jnp.ones(3), "b": jnp.ones(())}
    state = tx.init(params)
    for _ in range(3):
        _, state = tx.update(params, state, params, value=jnp.float32(1))
    with jax.log_compiles(), caplog.at_level("WARNING"):
        for _ in range(2):
            _, state = tx.update(params, state, params, value=jnp.float32(1))
    assert [line for line in caplog.messages if "ompil" in line] == []
