"""`optax.tree.map_params` over the whole catalogue."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES

import adaptax

# No state has another array of these shapes.
PARAMS = {"matrix": jnp.ones((7, 5)), "deep": [jnp.ones((1, 11)), jnp.ones((13,))]}
SHAPES = {(7, 5), (1, 11), (13,)}


def is_masked(node):
    return isinstance(node, optax.MaskedNode)


def mapped(optimizer, state, by_leaf=False):
    """Mark what is mapped, beside the parameter that it belongs to.

    Methods that look at each leaf keep scalars or slices of leaves as well.
    """

    def mark(leaf, param):
        if is_masked(leaf):
            return leaf
        assert by_leaf or leaf.shape == param.shape
        return np.full(param.shape, "mapped")

    return optax.tree.map_params(optimizer, mark, state, PARAMS, is_leaf=is_masked)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_shaped_like_the_parameters_is_mapped_and_nothing_else(case):
    optimizer = case.optimizer()
    state = optimizer.init(PARAMS)
    leaves = jax.tree.leaves(state)
    if "map_params" in case.contract.breaks:
        with pytest.raises(ValueError, match="has no leaves shaped like"):
            mapped(optimizer, state)
        return
    marked = jax.tree.leaves(mapped(optimizer, state, case.by_leaf))
    assert len(marked) == len(leaves)
    for old, new in zip(leaves, marked, strict=True):
        if jnp.shape(old) in SHAPES:
            assert np.all(np.asarray(new) == "mapped")
        else:
            assert new is old or case.by_leaf


@pytest.mark.parametrize(
    ("wrapper", "inner_of"),
    [
        (adaptax.packed, lambda state: adaptax.unpack_state(state, PARAMS)),
        (
            lambda inner: adaptax.quantized(inner, smallest=1),
            lambda state: adaptax.unquantize_state(state),
        ),
    ],
)
def test_the_remedy_in_the_message_is_one(wrapper, inner_of):
    inner = adaptax.adam(0.1)
    optimizer = wrapper(inner)
    state = inner_of(optimizer.init(PARAMS))
    marked = jax.tree.leaves(mapped(inner, state))
    assert sum(np.asarray(leaf).dtype.kind == "U" for leaf in marked) == 6
