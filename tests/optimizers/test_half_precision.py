"""What every optimizer of the catalogue does with parameters of half precision."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from steps import PARAMS, as_dtype, gradients

import adaptax
from adaptax import catalog

MOMENTLESS = {"gradient_descent"}
OPTIMIZERS = [entry for entry in catalog.ENTRIES if entry.family == "optimizer"]
SHAPES = {
    "matrix": jax.ShapeDtypeStruct((8, 2), jnp.bfloat16),
    "vector": jax.ShapeDtypeStruct((3,), jnp.bfloat16),
}


def averages(state):
    """List the arrays of a state, but for the copy of the first parameters."""
    return [
        leaf
        for path, leaf in jax.tree.leaves_with_path(state)
        if leaf.shape != () and "origin" not in (getattr(k, "name", "") for k in path)
    ]


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
    optimizer = optax.with_extra_args_support(entry.make(accumulator_dtype=dtype))

    def step(params):
        state = optimizer.init(params)
        return state, optimizer.update(params, state, params, value=1.0)

    state, (updates, after) = jax.eval_shape(step, SHAPES)
    kept = averages(state) + averages(after)
    assert len(averages(state)) >= len(SHAPES)
    assert {leaf.dtype for leaf in kept} == {jnp.dtype(dtype or jnp.float32)}
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}


def injected(entry):
    """Inject 0.999 for every averaging factor, which Optax rounds to 1 in bfloat16."""
    names = {"b", "b1", "b2", "b3", "decay"}.intersection(entry.hyperparameters)
    rate = {"learning_rate": 0.125} if entry.has_seat else {}
    inject = optax.inject_hyperparams(entry.factory)
    return inject(**rate, **dict.fromkeys(names, 0.999))


REFUSING = {
    *("prodigy", "dadapt_adam", "dadapt_sgd", "dadapt_lion"),
    *("adamg", "momo", "self_tuning"),
}
"""Methods whose sums mean nothing where a factor is 1."""


@pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
def test_factors_that_round_to_one_in_bfloat16_do_no_harm(entry):
    optimizer, params = injected(entry), as_dtype(PARAMS, jnp.bfloat16)
    if entry.name in REFUSING:
        with pytest.raises(ValueError, match=r"b\d? must be >= 0 and < 1, got 1"):
            optimizer.init(params)
        return
    optimizer = optax.with_extra_args_support(optimizer)
    state = optimizer.init(params)
    for gradient in gradients(8):
        gradient = as_dtype(gradient, jnp.bfloat16)
        updates, state = optimizer.update(gradient, state, params, value=1.0)
        chex.assert_tree_all_finite(updates)


ALL_BUT_SCHEDULES = [entry for entry in catalog.ENTRIES if entry.family != "schedule"]


@pytest.mark.parametrize("entry", ALL_BUT_SCHEDULES, ids=lambda entry: entry.name)
def test_an_update_that_is_too_large_for_float16_is_its_largest_number(entry):
    dtype, rate = jnp.float16, {"learning_rate": 1e6}
    made = entry.make(**rate) if entry.has_seat else entry.make()
    if entry.family in ("controller", "estimate"):
        made = optax.chain(made, adaptax.descend(1e6))
    optimizer = optax.with_extra_args_support(made)
    params = {"w": jnp.asarray([[1.0, -2.0], [0.5, 3.0]], dtype)}
    size = jnp.asarray(4e4, dtype)
    gradients = {"w": jnp.asarray([[1.0, -1.0], [0.5, 0.0]], dtype) * size}
    extra_args = {
        "value": jnp.float32(1.0),
        "grad": gradients,
        "value_fn": lambda params: jnp.float32(1.0),
        "grad_fn": lambda params: gradients,
        "micro_norms": jnp.array([1e4, 2e4, 3e4], jnp.float32),
    }
    state = optimizer.init(params)
    for _ in range(3):
        updates, state = optimizer.update(gradients, state, params, **extra_args)
        assert updates["w"].dtype == dtype
        chex.assert_tree_all_finite(updates)
        uphill = jnp.sign(updates["w"]) * jnp.sign(gradients["w"])
        assert not np.any(uphill > 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_every_schedule_saturates_with_the_sign_of_the_update(dtype):
    largest = float(jnp.finfo(dtype).max)
    gradient = jnp.asarray([0.9, -0.9, 0.0], dtype) * jnp.asarray(largest, dtype)
    for entry in catalog.ENTRIES:
        if entry.family == "schedule":
            rates = optax.chain(entry.make(), adaptax.constant(1e6))
            state = rates.init(gradient)
            for _ in range(2):  # a warm-up begins at 0
                scaled, state = rates.update(gradient, state)
            scaled = scaled.astype(jnp.float32).tolist()
            assert scaled == [largest, -largest, 0], entry.name


def test_a_rate_saturates_finite_updates_alone():
    updates = jnp.asarray([4e4, -4e4, jnp.inf, -jnp.inf, jnp.nan, 1.0], jnp.float16)
    rate = adaptax.constant(2.0)
    scaled, _ = rate.update(updates, rate.init())
    expected = [65504.0, -65504.0, jnp.inf, -jnp.inf, jnp.nan, 2.0]
    np.testing.assert_array_equal(scaled, jnp.asarray(expected, jnp.float16))
    optimizer = adaptax.gradient_descent(2.0)
    moved, _ = optimizer.update(updates[:2], optimizer.init(updates[:2]))
    np.testing.assert_array_equal(moved, [-65504.0, 65504.0])
    largest = jnp.finfo(jnp.bfloat16).max
    scaled, _ = adaptax.constant(1.003).update(largest[None], rate.init())
    np.testing.assert_array_equal(scaled, largest[None])
