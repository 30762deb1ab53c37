"""Masks: trees of booleans, prefixes of them, functions; a callable tree is a tree."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax import catalog
from adaptax._core import masks

equinox = pytest.importorskip("equinox") if jax.__version_info__ > (0, 11) else None


@jax.tree_util.register_pytree_with_keys_class
class Model:
    """A model that can be called, as those of Equinox can."""

    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __call__(self, x):
        raise AssertionError("a model was called as if it were a function of a mask")

    def tree_flatten_with_keys(self):
        keys = map(jax.tree_util.GetAttrKey, ("weight", "bias"))
        return tuple(zip(keys, (self.weight, self.bias), strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


PARAMS = Model(jnp.asarray(np.float32(range(12)).reshape(3, 4)), jnp.full(4, 0.5))
MASK = Model(True, False)


MASKED = [
    pytest.param(entry, name, id=f"{entry.name}-{name}")
    for entry in catalog.ENTRIES
    for name in ("mask", "matrices")
    if name in inspect.signature(entry.factory).parameters
]


def steps_of(entry, name, mask, params):
    arguments = {"weight_decay": 0.1} if name == "mask" else {}
    optimizer = entry.optimizer(**{name: mask}, **arguments)
    gradients = jax.tree.map(jnp.ones_like, params)
    state, extra_args = optimizer.init(params), {}
    if "value" in entry.needs:
        extra_args["value"] = 1.0
    moving = 0
    while moving < 2:  # the first steps of some move nothing
        updates, state = optimizer.update(gradients, state, params, **extra_args)
        moving += any(leaf.any() for leaf in jax.tree.leaves(updates))
    return jax.tree.leaves(updates)


@pytest.mark.parametrize(("entry", "name"), MASKED)
def test_a_model_of_booleans_is_a_mask_though_it_can_be_called(entry, name):
    ours = steps_of(entry, name, MASK, PARAMS)
    plain = {"a": PARAMS.weight, "b": PARAMS.bias}
    expected = steps_of(entry, name, {"a": True, "b": False}, plain)
    by_function = steps_of(entry, name, lambda params: MASK, PARAMS)
    without = steps_of(entry, name, False, PARAMS)
    for one, wanted, other in zip(ours, expected, by_function, strict=True):
        np.testing.assert_array_equal(one, wanted)
        np.testing.assert_array_equal(one, other)
    assert not np.allclose(ours[0], without[0], atol=1e-7)


def test_a_model_of_equinox_is_masked_by_one_of_booleans():
    if equinox is None:
        pytest.skip("Equinox is installed beside the newest JAX")
    model = equinox.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
    params = equinox.filter(model, equinox.is_array)
    mask = jax.tree.map(lambda leaf: jnp.ndim(leaf) == 2, params)
    assert callable(mask)
    optimizer = adaptax.adamw(0.5, weight_decay=0.1, mask=mask)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert np.any(updates.layers[0].weight)
    assert not np.any(updates.layers[0].bias)


@pytest.mark.parametrize(
    "mask",
    [
        functools.partial(lambda flag, params: Model(flag, False), True),
        jax.tree_util.Partial(lambda flag, params: Model(flag, False), True),
        Model(np.bool_(True), jnp.zeros((), bool)),
        lambda params: jax.tree.map(lambda leaf: leaf.ndim == 2, params),
    ],
    ids=["partial", "Partial", "arrays", "function"],
)
def test_masks_of_every_kind_are_spread_over_the_leaves(mask):
    found = masks.spread("mask", mask, PARAMS)
    assert jax.tree.leaves(found) == [True, False]


def test_a_prefix_stands_for_all_below_it():
    tree = {"a": PARAMS, "b": [jnp.ones(2), None, optax.MaskedNode()]}
    found = masks.spread("mask", {"a": True, "b": False}, tree)
    assert jax.tree.leaves(found) == [True, True, False]
    assert jax.tree.structure(found) == jax.tree.structure(tree)


def test_what_is_no_mask_is_refused_by_name():
    with pytest.raises(ValueError, match="matrices must be a tree of booleans"):
        masks.spread("matrices", {"weight": True}, PARAMS)
    with pytest.raises(TypeError, match=r"mask must have booleans as leaves, got 0.5"):
        masks.spread("mask", 0.5, PARAMS)


def test_a_gradient_that_can_be_called_is_packed_like_the_parameters():
    optimizer = adaptax.packed(adaptax.gradient_descent([0.1, adaptax.hypergradient()]))
    state = optimizer.init(PARAMS)
    gradients = jax.tree.map(jnp.ones_like, PARAMS)
    for _ in range(2):
        updates, state = optimizer.update(gradients, state, PARAMS, grad=gradients)
    assert adaptax.learning_rate(state) > 0.1
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)
