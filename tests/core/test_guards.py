"""Trees that do not fit are refused by path; leaves frozen by gradients of None fit.

The whole catalogue is tried, mostly with shapes alone, so that nothing is compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES, start

import adaptax
from adaptax import catalog
from adaptax._core import guards

TREE = {**start(), "deep": [jnp.ones(3), {"x": jnp.ones(2)}]}


def with_leaf(leaf):
    """Put something in the place of the deepest leaf."""
    return {**TREE, "deep": [TREE["deep"][0], {"x": leaf}]}


UNTRAINABLE = {
    "a random key": jax.random.key(0),
    "random keys": jax.random.split(jax.random.key(0), 2),
    "float8": jnp.ones(2, jnp.float8_e4m3fn),
    "float8 of another kind": jnp.ones((), jnp.float8_e5m2),
    "int4": jnp.ones(2, jnp.int4),
    "uint4": jnp.ones((2, 2), jnp.uint4),
}
UNFIT = {
    "a missing leaf": (with_leaf({}), r"\['deep'\]\[1\]\['x'\]"),
    "one leaf more": (with_leaf({"y": jnp.ones(2)}), r"\['deep'\]\[1\]\['x'\]"),
    "a longer list": ({**TREE, "deep": [*TREE["deep"], 1.0]}, r"\['deep'\]\[2\]"),
    "a missing key": ({"deep": TREE["deep"]}, r"\['matrix'\]"),
    "another shape": (with_leaf(jnp.ones(3)), r"\['deep'\]\[1\]\['x'\]"),
    "a shape that would broadcast": (with_leaf(jnp.ones(1)), r"\['x'\]"),
    "one axis more": ({**TREE, "scalar": jnp.ones((1, 1))}, r"\['scalar'\]"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_leaves_that_cannot_be_trained_are_refused_by_path(case):
    for leaf in UNTRAINABLE.values():
        with pytest.raises(ValueError, match=r"^params\['deep'\]\[1\]\['x'\] has"):
            jax.eval_shape(case.optimizer().init, with_leaf(leaf))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_that_do_not_fit_are_refused_by_path(case):
    for gradients, path in UNFIT.values():
        with pytest.raises(ValueError, match=path) as refused:
            updated(case, case.optimizer(), gradients, TREE)
        assert "pytree" not in str(refused.value)  # JAX's own words


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_params_a_state_shaped_like_them_tells(case):
    optimizer = case.optimizer()
    state = jax.eval_shape(optimizer.init, TREE)
    shaped = (8, 2) in [leaf.shape for leaf in jax.tree.leaves(state)]
    if "params" in case.needs or not shaped:
        return  # params are needed, or nothing is kept that could tell
    for gradients, path in UNFIT.values():
        extra_args = case.extra_args(
            1.0, lambda params, g=gradients: g, jax.random.key(0), TREE
        )
        with pytest.raises(ValueError, match=rf"{path}|weight decay needs"):
            jax.eval_shape(
                lambda state, g, extra_args=extra_args: optimizer.update(
                    g, state, **extra_args
                ),
                state,
                gradients,
            )


@pytest.mark.parametrize(
    "make",
    [
        adaptax.gradient_descent,
        lambda rate: adaptax.packed(adaptax.adam(rate)),
        lambda rate: adaptax.packed(adaptax.gradient_descent(rate)),
        lambda rate: adaptax.monitor(optax.sgd(rate)),
        lambda rate: adaptax.quantized(optax.sgd(rate)),
        lambda rate: adaptax.accumulate(optax.sgd(rate), 2),
    ],
)
def test_a_wrapper_names_the_path_that_the_user_knows(make):
    params = {"w": jnp.ones(2), "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=r"params\['key'\] has dtype key"):
        make(0.1).init(params)
    with pytest.raises(ValueError, match=r"params\['key'\] has dtype key"):
        adaptax.adam(0.1).init(adaptax.pack(params))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: adaptax.packed(inner, elementwise=True),
        lambda inner: adaptax.packed(inner, largest=0, elementwise=True),
        adaptax.quantized,
        lambda inner: adaptax.accumulate(inner, 2),
        lambda inner: optax.contrib.split_real_and_imaginary(adaptax.monitor(inner)),
    ],
)
def test_a_wrapper_refuses_gradients_by_the_path_that_the_user_knows(wrap):
    optimizer = wrap(optax.adam(0.1))
    for gradients, path in UNFIT.values():

        def update(params, gradients):
            return optimizer.update(gradients, optimizer.init(params), params)

        with pytest.raises(ValueError, match=path) as refused:
            jax.eval_shape(update, TREE, gradients)
        assert "pytree" not in str(refused.value)


LABELS = jax.tree.map(lambda leaf: "all", TREE)
OF_OPTAX = {
    "chain": lambda inner: optax.chain(optax.clip_by_global_norm(1.0), inner),
    "apply_if_finite": lambda inner: optax.apply_if_finite(inner, 3),
    "inject_hyperparams": lambda inner: optax.inject_hyperparams(
        lambda factor: optax.chain(inner, optax.scale(factor))
    )(1.0),
    "masked": lambda inner: optax.masked(inner, jax.tree.map(bool, LABELS)),
    "partition": lambda inner: optax.partition({"all": inner}, LABELS),
}


@pytest.mark.parametrize("name", OF_OPTAX)
def test_within_wrappers_of_optax_a_misfit_is_named_by_its_path(name):
    """Two of them map over the trees first, and find other structures themselves."""
    optimizer = OF_OPTAX[name](adaptax.adam(0.1))
    state = jax.eval_shape(optimizer.init, TREE)
    for what, (gradients, path) in UNFIT.items():
        theirs = name in ("masked", "partition") and "shape" not in what
        said = f"{path}|pytree structure error" if theirs else path
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(optimizer.update, gradients, state, TREE)


FROZEN = {**TREE, "frozen": jnp.ones((8, 2)), "tail": (jnp.ones(3), jnp.ones(()))}
GRADIENTS = {**TREE, "frozen": None, "tail": (None, jnp.ones(()))}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_leaf_without_a_gradient_does_not_move(case):
    wrapped = {
        "itself": (case.optimizer(), ()),
        "chain": (optax.chain(optax.clip_by_global_norm(1.0), case.optimizer()), ()),
    }
    if not case.by_leaf:
        packed = adaptax.packed(case.optimizer(), elementwise=True)
        wrapped["packed"] = packed, ()
    for name, (optimizer, more) in wrapped.items():
        with jax.numpy_dtype_promotion("standard"):  # Optax mixes types in places
            updates = updated(case, optimizer, GRADIENTS, FROZEN, more)
        assert updates["frozen"] is None, name
        assert updates["tail"][0] is None, name
        assert updates["deep"][0].shape == (3,), name


def updated(case, optimizer, gradients, params, more=()):
    """Update twice, with shapes alone."""
    optimizer = optax.with_extra_args_support(optimizer)

    def update(params, gradients, value):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = case.update(
                optimizer, gradients, state, params, value, more
            )
        return updates

    return jax.eval_shape(update, params, gradients, jnp.float32(1))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("optimizer", "adamw"),
        ("optimizer", "schedule_free_polyak"),
        ("estimate", "adgd"),
        ("estimate", "adgd2"),
        ("wrapper", "accumulate"),
        ("wrapper", "packed"),
    ],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_the_others_move_as_if_the_frozen_leaf_were_not_there(family, name, jit):
    entry = catalog.find(name, family)
    optimizer = entry.optimizer()
    moved = {}
    for frozen in (False, True):
        params = {"w": jnp.asarray([1.0, -2.0]), "b": jnp.asarray(0.5)}
        gradients = {"w": jnp.asarray([0.3, 0.1]), "b": jnp.asarray(-0.2)}
        if frozen:
            params["frozen"], gradients["frozen"] = jnp.ones(2), None
        extra_args = {"value": 1.0} if "value" in entry.needs else {}
        step = jax.jit(optimizer.update) if jit else optimizer.update
        state = optimizer.init(params)
        for _ in range(4):
            updates, state = step(gradients, state, params, **extra_args)
            for key in ("w", "b"):
                params[key] = params[key] + updates[key]
        assert updates.get("frozen") is None
        moved[frozen] = [params["w"], params["b"]]
    for ours, wanted in zip(moved[True], moved[False], strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-6)


def test_gradients_of_none_are_packed_as_zeros():
    params = {"w": jnp.ones(2), "b": jnp.ones(3)}
    packed = adaptax.pack(params)
    gradients = adaptax.pack({"w": jnp.full(2, 5.0), "b": None}, like=packed)
    np.testing.assert_array_equal(adaptax.unpack(gradients)["b"], np.zeros(3))
    np.testing.assert_array_equal(adaptax.unpack(gradients)["w"], np.full(2, 5.0))


def test_a_line_search_sees_the_parameters_that_are_frozen():
    seen = []

    def loss(params):
        seen.append(params["frozen"])
        return jnp.sum(params["w"] ** 2) + jnp.sum(params["frozen"])

    search = adaptax.gradient_descent(adaptax.line_search())
    params = {"w": jnp.ones(2), "frozen": jnp.ones(2)}
    gradients = {"w": 2 * jnp.ones(2), "frozen": None}
    for optimizer in (search, adaptax.packed(search)):
        updates, _ = optimizer.update(
            gradients,
            optimizer.init(params),
            params,
            value=loss(params),
            grad=gradients,
            value_fn=loss,
        )
        assert updates["frozen"] is None
        assert np.any(updates["w"])
    assert all(leaf is not None for leaf in seen)


def test_a_container_of_another_type_is_named():
    updates = {**TREE, "deep": tuple(TREE["deep"])}
    with pytest.raises(ValueError, match=r"at \['deep'\], a tuple instead of a list"):
        guards.require_like(updates, TREE)


def test_a_mask_of_a_subtree_stands_for_all_below_it():
    updates = {"a": optax.MaskedNode(), "b": jnp.ones(2)}
    guards.require_like(updates, {"a": {"x": jnp.ones(3)}, "b": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"differ in structure at \['a'\]"):
        guards.require_like(
            {**updates, "a": None}, {"a": {"x": jnp.ones(3)}, "b": jnp.ones(2)}
        )


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (adaptax.dog, "dog"),
        (adaptax.l_dog, "l_dog"),
        (adaptax.dowg, "dowg"),
        (adaptax.cdat, "cdat"),
        (adaptax.adgd, "adgd"),
        (adaptax.adgd2, "adgd2"),
        (adaptax.stationarity, "stationarity"),
        (adaptax.line_search, "line_search"),
    ],
)
def test_what_needs_the_parameters_says_who_it_is(make, who):
    rate = make()
    with pytest.raises(ValueError, match=f"^{who} needs the parameters"):
        rate.update(jnp.ones(2), rate.init(jnp.ones(2)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_value_that_is_no_number_is_named(case):
    if "value" not in case.needs:
        return
    optimizer = case.optimizer()
    state = optimizer.init(TREE)
    extra_args = case.extra_args(1.0, lambda params: TREE, jax.random.key(0), TREE)
    refused = {
        r"^value must be a number, got": ("1", object(), jax.random.key(0), {"a": 1.0}),
        r"^value must be a scalar, got shape \(\d,\). Take": (jnp.ones(3), [1.0]),
        r"^value must be real": (1j, jnp.complex64(1)),
        r"the extra argument `value` is missing": (None,),
    }
    for message, values in refused.items():
        for value in values:
            given = {**extra_args, "value": value}
            with pytest.raises((TypeError, ValueError), match=message):
                optimizer.update(TREE, state, TREE, **given)
