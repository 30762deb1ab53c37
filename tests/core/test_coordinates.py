"""What surrounds a rule that treats each coordinate alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax import catalog
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    remember,
)

PARAMS = {"a": jnp.ones((2, 3)), "b": {"c": jnp.zeros(4, jnp.bfloat16)}}


def test_accumulators_are_shaped_like_the_parameters_and_at_least_float32():
    made = accumulators({**PARAMS, "i": jnp.arange(2), "n": None, "x": 1.0}, 0.5)
    assert made["a"].shape == (2, 3)
    assert made["b"]["c"].dtype == jnp.float32
    assert made["i"] == optax.MaskedNode()
    assert made["n"] is None
    np.testing.assert_array_equal(made["a"], 0.5)
    assert made["x"] == 0.5


def test_accumulators_are_float64_for_float64():
    with jax.enable_x64(True):
        params = {"wide": jnp.ones(2, jnp.float64), "narrow": jnp.ones(2, jnp.float32)}
        made = accumulators(params)
        assert made["wide"].dtype == jnp.float64
        assert made["narrow"].dtype == jnp.float32


def test_each_accumulator_has_a_buffer_of_its_own():
    one, other = jax.tree.leaves(accumulators({"a": jnp.ones(3), "b": jnp.ones(3)}))
    assert one.unsafe_buffer_pointer() != other.unsafe_buffer_pointer()


def test_a_half_precision_leaf_is_computed_in_float32():
    seen = []

    def rule(g, memory, scale):
        seen.extend([g.dtype, memory.dtype, scale.dtype])
        memory = memory + g
        return scale * memory, memory

    gradient = jnp.full(2, 1 / 3, jnp.bfloat16)
    memory = accumulators(gradient)
    update, memory = by_coordinate(rule, gradient, memory, scale=0.7)
    assert seen == [jnp.float32] * 3
    assert update.dtype == jnp.bfloat16
    expected = (np.float32(0.7) * np.float32(gradient)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(update, expected)
    np.testing.assert_array_equal(memory, np.float32(gradient))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e38])
def test_a_gradient_that_cannot_be_used_counts_as_0(bad):
    def rule(g, memory):
        memory = memory + g * g
        return g / memory, memory

    memory = jnp.full(3, 2.0)
    update, after = by_coordinate(rule, jnp.asarray([1.0, bad, 1.0]), memory)
    np.testing.assert_array_equal(after, [3, 2, 3])
    np.testing.assert_allclose(update, [1 / 3, 0, 1 / 3], rtol=1e-6)


def test_what_float16_cannot_hold_becomes_its_largest_number():
    update, _ = by_coordinate(
        lambda g, memory: (1e6 * g, memory),
        jnp.asarray([1.0, -1.0, 1e-3], jnp.float16),
        jnp.zeros(3),
    )
    np.testing.assert_array_equal(np.isfinite(update), True)
    np.testing.assert_array_equal(update[:2], [65504, -65504])


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(6.0, 3.0, 2), (1.0, 0.0, 0), (0.0, 0.0, 0)],
)
def test_dividing_by_zero_gives_zero(numerator, denominator, expected):
    assert divide(jnp.asarray(numerator), jnp.asarray(denominator)) == expected


def test_the_gradient_of_a_division_by_zero_is_finite():
    for argnum in (0, 1):
        slope = jax.grad(divide, argnums=argnum)(jnp.ones(()), jnp.zeros(()))
        assert np.isfinite(slope)


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9, 0.999])
def test_the_weighted_average_is_the_debiased_one(factor):
    values = np.random.default_rng(0).normal(size=30)
    biased = mean = 0.0
    with jax.enable_x64(True):
        for step, value in enumerate(values, start=1):
            biased = factor * biased + (1 - factor) * value
            weight = average_weight(factor, jnp.asarray(step))
            mean = mean + float(weight) * (value - mean)
            np.testing.assert_allclose(mean, biased / (1 - factor**step), rtol=1e-9)


def test_a_factor_of_one_gives_the_plain_mean():
    weights = [float(average_weight(1.0, jnp.asarray(step))) for step in (1, 2, 3, 4)]
    np.testing.assert_allclose(weights, [1, 1 / 2, 1 / 3, 1 / 4], rtol=1e-6)


def test_weights_fall_to_one_minus_the_factor_and_stay_there():
    last = jnp.asarray(np.iinfo(np.int32).max)
    np.testing.assert_allclose(average_weight(0.9, last), 0.1, rtol=1e-5)


def update_with(gradients, params=PARAMS):
    optimizer = adaptax.adam(0.1)
    return optimizer.update(gradients, optimizer.init(params), params)


@pytest.mark.parametrize(
    ("gradients", "path"),
    [
        ({"a": jnp.ones((2, 3))}, r"\['b'\]\['c'\]"),
        ({**PARAMS, "d": jnp.ones(1)}, r"\['d'\]"),
        ({"a": jnp.ones((2, 3)), "b": jnp.ones(4)}, r"\['b'\]"),
        ({"a": jnp.ones((2, 3)), "b": {"x": jnp.ones(4)}}, r"\['b'\]\['x'\]"),
        ([jnp.ones((2, 3))], r"\[0\]"),
    ],
)
def test_another_structure_is_an_error_that_names_the_first_path(gradients, path):
    with pytest.raises(ValueError, match=f"differ in structure at {path}"):
        update_with(gradients)


@pytest.mark.parametrize(
    ("shape", "name"), [((3, 2), "a"), ((2, 3, 1), "a"), ((), "a"), ((5,), "c")]
)
def test_another_shape_is_an_error_that_names_the_path(shape, name):
    gradients = {
        "a": jnp.ones(shape if name == "a" else (2, 3)),
        "b": {"c": jnp.ones(shape if name == "c" else 4, jnp.bfloat16)},
    }
    with pytest.raises(ValueError, match=rf"\['{name}'\] has shape"):
        update_with(gradients)


def test_a_tree_of_300_levels_is_no_trouble():
    params = jnp.ones(2)
    for _ in range(300):
        params = {"x": params}
    updates, _ = update_with(params, params)
    np.testing.assert_allclose(jax.tree.leaves(updates)[0], -0.1, rtol=1e-5)


def test_an_array_that_stands_twice_in_the_tree_is_trained_twice():
    shared = jnp.ones(2)
    params = {"x": shared, "y": shared}
    updates, _ = update_with(params, params)
    np.testing.assert_array_equal(updates["x"], updates["y"])


def test_keys_of_any_kind_are_fine():
    params = {"a/b": jnp.ones(1), "": jnp.ones(1), "ε": jnp.ones(1)}
    updates, _ = update_with(params, params)
    assert set(updates) == set(params)


def test_nothing_trips_over_debug_nans():
    with jax.debug_nans(True):
        for optimizer in (
            adaptax.adam(0.1, eps=0.0),
            adaptax.adagrad(0.1, eps_root=0.0),
            adaptax.rmsprop(0.1, eps=0.0),
        ):
            zeros = {"w": jnp.zeros(3)}
            state = optimizer.init(zeros)
            for _ in range(2):
                updates, state = optimizer.update(zeros, state)
            np.testing.assert_array_equal(updates["w"], 0)


def test_updates_need_no_transfer_from_the_host():
    optimizer = adaptax.adam(0.1)
    params = {"w": jnp.ones(3)}
    state = optimizer.init(params)
    step = jax.jit(optimizer.update)
    step(params, state)
    with jax.transfer_guard("disallow"):
        step(params, state)


OPTIMIZERS = [entry for entry in catalog.ENTRIES if entry.family == "optimizer"]


@pytest.mark.parametrize("entry", OPTIMIZERS, ids=lambda entry: entry.name)
def test_the_derivative_of_an_update_by_the_gradient_is_finite_even_at_zero(entry):
    seat = {"learning_rate": 0.1} if entry.has_seat else {}
    optimizer = optax.with_extra_args_support(entry.factory(**seat))
    params = {"matrix": jnp.ones((1, 3)), "vector": jnp.ones(3)}

    @jax.jit
    @jax.grad
    def slope(gradient):
        state, total = optimizer.init(params), jnp.zeros(())
        given = {"matrix": gradient[None], "vector": gradient}
        for _ in range(2):
            updates, state = optimizer.update(given, state, params, value=1.0)
            total += sum(map(jnp.sum, jax.tree.leaves(updates)))
        return total

    for gradient in (jnp.zeros(3), jnp.asarray([0.0, 1.0, jnp.nan])):
        assert np.isfinite(slope(gradient)).all()


def test_what_is_remembered_keeps_the_dtype_of_the_memory():
    updates = {"w": jnp.full(2, 1.5, jnp.bfloat16), "n": jnp.arange(2), "o": None}
    memory = remember(accumulators(updates), updates)
    assert memory["w"].dtype == jnp.float32
    assert memory["w"].tolist() == [1.5, 1.5]
    assert isinstance(memory["n"], optax.MaskedNode)
    assert memory["o"] is None


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_that_does_not_count_moves_nothing(compiled):
    def rule(g, memory, weight):
        memory = memory + weight * g
        return memory, memory

    def step(gradient, memory, counts):
        return by_coordinate(rule, gradient, memory, where=counts, weight=1.0)

    step = jax.jit(step) if compiled else step
    gradient = {"a": jnp.array([1.0, jnp.nan]), "b": jnp.ones((), jnp.bfloat16)}
    memory = accumulators(gradient, 3.0)
    update, after = step(gradient, memory, jnp.asarray(False))
    assert not any(leaf.any() for leaf in jax.tree.leaves(update))
    jax.tree.map(np.testing.assert_array_equal, after, memory)
    update, after = step(gradient, memory, jnp.asarray(True))
    np.testing.assert_array_equal(update["a"], [4, 3])
    np.testing.assert_array_equal(after["a"], [4, 3])
