"""Which leaves are trained."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adaptax._core import leaves

SHAPED = jax.ShapeDtypeStruct((2,), jnp.bfloat16)


@pytest.mark.parametrize(
    "leaf",
    [
        1.0,
        np.float32(1),
        np.ones(2),
        jnp.ones(2),
        jnp.ones((), jnp.float16),
        jnp.ones((0, 3), jnp.bfloat16),
        SHAPED,
    ],
    ids=repr,
)
def test_floating_point_leaves_are_trained(leaf):
    assert leaves.is_trained(leaf)


@pytest.mark.parametrize(
    "leaf",
    [
        None,
        optax.MaskedNode(),
        1,
        True,
        np.arange(3),
        jnp.ones((), bool),
        jnp.ones((), jnp.uint8),
        np.zeros(3, jax.dtypes.float0),
        jnp.ones((), jnp.float8_e4m3fn),
    ],
    ids=repr,
)
def test_no_other_leaf_is_trained(leaf):
    assert not leaves.is_trained(leaf)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([], jnp.float32),
        ([jnp.float16], jnp.float32),
        ([jnp.bfloat16, jnp.float16], jnp.float32),
        ([jnp.bfloat16, jnp.float64], jnp.float64),
        ([jnp.complex64], jnp.complex64),
        ([jnp.complex64, jnp.bfloat16], jnp.complex64),
        ([jnp.float64, jnp.complex64], jnp.complex128),
    ],
)
def test_computing_is_done_in_the_widest_dtype_and_at_least_float32(dtypes, expected):
    assert leaves.computing_dtype(*map(jnp.dtype, dtypes)) == expected


@pytest.mark.parametrize(
    ("leaf", "remedy"),
    [
        (jax.random.key(0), "a random key is not a parameter"),
        (jnp.ones((), jnp.float8_e5m2), "bfloat16 or wider"),
    ],
)
def test_a_leaf_that_cannot_be_trained_is_named_by_its_path(leaf, remedy):
    with pytest.raises(ValueError, match=r"params\['a'\]\[1\] has dtype.*" + remedy):
        leaves.require_trainable({"a": [jnp.ones(()), leaf]})


def test_every_tree_of_ordinary_leaves_can_be_trained():
    leaves.require_trainable({"a": 1.0, "b": None, "c": jnp.arange(2), "d": SHAPED})
    leaves.require_trainable({})


def test_the_global_norm_is_over_the_trained_leaves():
    tree = {"a": jnp.asarray([3.0]), "b": 4.0, "c": jnp.arange(9), "d": None}
    assert leaves.global_norm(tree) == 5
    assert leaves.global_norm({}) == 0
    assert leaves.global_norm(jnp.zeros((0, 3))) == 0


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_squared_in_float32(dtype):
    tree = [jnp.full(300, 300.0, dtype)]
    norm = leaves.global_norm(tree)
    assert norm.dtype == jnp.float32
    np.testing.assert_allclose(norm, float(tree[0][0]) * np.sqrt(300), rtol=1e-6)


def test_an_inner_product_is_over_the_leaves_trained_in_both():
    one = {"a": jnp.full(3, 300, jnp.float16), "b": None, "c": jnp.arange(2)}
    other = {"a": jnp.full(3, 300.0), "b": jnp.ones(()), "c": jnp.arange(2)}
    product = leaves.inner_product(one, other)
    assert product.dtype == jnp.float32
    assert product == 270_000
    assert leaves.inner_product({}, {}) == 0


def test_the_derivative_of_the_norm_at_zero_is_zero():
    np.testing.assert_array_equal(jax.grad(leaves.global_norm)(jnp.zeros(3)), 0)
    np.testing.assert_allclose(
        jax.grad(leaves.global_norm)(jnp.array([3.0, 4.0])), [0.6, 0.8], rtol=1e-6
    )


@pytest.mark.parametrize("size", [1, 7, 8, 9, 60, 64, 65, 1000])
def test_parts_are_added_to_each_other_and_then_up(size):
    array = np.random.default_rng(0).normal(size=(size,)).astype(np.float32)
    found = jax.jit(leaves.folded_sum)(array)
    np.testing.assert_allclose(found, array.sum(), rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(leaves.folded_sum)(array), 1)
    square = np.arange(size * 3, dtype=np.float64).reshape(3, size)
    np.testing.assert_array_equal(
        jax.vmap(leaves.folded_sum)(square), square.sum(axis=1).astype(np.float32)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_in_a_folded_sum(value):
    array = np.ones(100, np.float32)
    array[99] = value
    np.testing.assert_array_equal(leaves.folded_sum(array), value)


def test_sums_of_large_leaves_are_folded_on_one_processor(monkeypatch):
    """Nothing as large as the leaf is stored for the norm of what is computed."""
    size = 2**16 + 1

    def norm(array):
        return leaves.global_norm(
            jnp.where(jnp.abs(array) < 10, array, 0), computed=True
        )

    def scratch(size):
        compiled = jax.jit(norm).lower(jnp.ones(size)).compile()
        return compiled.memory_analysis().temp_size_in_bytes / (4 * size)

    several = scratch(size)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert several > 0.9
    assert scratch(size + 1) < 0.3
    array = np.linspace(-11, 11, size + 2, dtype=np.float32)
    expected = np.linalg.norm(array[np.abs(array) < 10].astype(np.float64))
    np.testing.assert_allclose(norm(array), expected, rtol=1e-6)
