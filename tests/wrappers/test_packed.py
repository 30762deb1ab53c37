"""Optimizers whose state lies in few buffers do what they do, and are read alike."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.contracts import Contract, Goal
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from reference.momentum import Momentum, momentum_of_optax
from steps import updates_of

import adaptax
from adaptax.wrappers import PackedState, PackedTree


def reference(w, gradients, values, *, learning_rate):
    """Lay out otherwise."""
    return Momentum(w, learning_rate).along(gradients)


CONTRACT = Contract(
    reference,
    elementwise=True,
    regroups=True,
    breaks={"map_params": "small leaves are kept in flat buffers"},
    optax_twin=momentum_of_optax,
    goals={"quadratic": Goal(200, 1e-2)},
)


def tree(seed: int = 0):
    random = np.random.default_rng(seed)
    shapes = {"matrix": (8, 5), "vector": (3,), "scalar": (), "large": (64, 300)}
    return {
        name: jnp.asarray(random.normal(size=shape).astype(np.float32))
        for name, shape in shapes.items()
    }


GRADIENTS = [tree(seed) for seed in range(1, 5)]


def trained(tx, gradients=GRADIENTS, params=None, **extra):
    """Return the parameters and the state after some steps, compiled."""
    params = tree() if params is None else params
    tx = optax.with_extra_args_support(tx)

    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


@pytest.fixture(scope="module")
def plain():
    return trained(adaptax.adamw(0.1))


@pytest.fixture(scope="module")
def packed():
    return trained(adaptax.packed(adaptax.adamw(0.1)))


def test_the_steps_are_the_same(plain, packed):
    chex.assert_trees_all_close(packed[0], plain[0], rtol=1e-6)


def test_small_leaves_share_a_buffer_and_large_ones_stay_apart(packed):
    mean = packed[1].inner_state[0].mean
    assert jax.tree.map(jnp.shape, mean) == PackedTree({"float32": (44,)}, ((64, 300),))


def test_the_unpacked_state_is_that_of_the_optimizer_itself(plain, packed):
    unpacked = adaptax.unpack_state(packed[1], tree())
    chex.assert_trees_all_equal_structs(unpacked, plain[1])
    chex.assert_trees_all_close(unpacked, plain[1], rtol=1e-6)


def test_a_clip_by_the_global_norm_may_be_packed():
    tx = optax.chain(optax.clip_by_global_norm(0.1), adaptax.momentum(0.1))
    ours, theirs = updates_of(adaptax.packed(tx)), updates_of(tx)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5)


def by_dimensions(params):
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


REFUSED = {
    "lamb": lambda: optax.lamb(0.1),
    "adafactor": lambda: optax.adafactor(0.1),
    "clip_by_block_rms": lambda: optax.clip_by_block_rms(1.0),
    "adaptive_grad_clip": lambda: optax.adaptive_grad_clip(0.1),
    "a mask by dimensions": lambda: optax.adamw(0.1, mask=by_dimensions),
    "a small mask": lambda: optax.chain(
        adaptax.adam(0.1), optax.add_decayed_weights(1e-6, by_dimensions)
    ),
    "noise": lambda: optax.add_noise(0.1, 0.5, 0),
    "a late lamb": lambda: optax.MultiSteps(optax.lamb(0.1), 9),
    "muon": lambda: adaptax.muon(0.1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_at_single_leaves_is_refused(name):
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ValueError, match="depend on the leaves, such as their norms"),
    ):
        adaptax.packed(REFUSED[name]()).init({"w": jnp.ones(3)})


def test_the_message_names_the_transformation():
    tx = optax.chain(optax.clip_by_global_norm(1.0), adaptax.lamb(0.1))
    with pytest.raises(ValueError, match=r"packed\(chain\(clip_by_.*scale_by_lamb"):
        adaptax.packed(tx).init({"w": jnp.ones(3)})


def test_traced_hyperparameters_do_not_hinder_the_trial():
    def init(make, rate):
        return adaptax.packed(make(rate)).init({"w": jnp.ones(3)})

    jax.vmap(lambda rate: init(adaptax.adam, rate))(jnp.ones(2))
    with pytest.raises(ValueError, match="depend on the leaves"):
        jax.eval_shape(lambda rate: init(adaptax.lamb, rate), 0.1)


def test_one_that_cannot_be_tried_may_be_vouched_for():
    def update(updates, state, params=None, *, factor, **extra_args):
        del params, extra_args
        return jax.tree.map(lambda leaf: factor * leaf, updates), state

    tx = optax.GradientTransformationExtraArgs(lambda params: (), update)
    with pytest.raises(ValueError, match=r"(?s)'factor'.*elementwise=True"):
        adaptax.packed(tx).init(tree())
    vouched = adaptax.packed(tx, elementwise=True)
    ours = updates_of(vouched, given=GRADIENTS, params=tree(), factor=2.0)
    expected = updates_of(tx, given=GRADIENTS, params=tree(), factor=2.0)
    chex.assert_trees_all_equal(ours, expected)


def test_each_dtype_has_a_buffer_and_other_leaves_pass_through():
    dtypes = {"half": jnp.bfloat16, "short": jnp.float16, "single": jnp.float32}
    params = {
        **{name: jnp.ones(4, dtype) for name, dtype in dtypes.items()},
        "none": None,
        "masked": optax.MaskedNode(),
        "integer": jnp.arange(3),
        "empty": jnp.ones((0, 2)),
    }
    plain, packed = adaptax.adam(0.1), adaptax.packed(adaptax.adam(0.1))
    state = packed.init(params)
    assert set(state.inner_state[0].mean.buffers) == {"bfloat16", "float16", "float32"}
    updates, _ = packed.update(params, state, params)
    expected, _ = plain.update(params, plain.init(params), params)
    chex.assert_trees_all_equal(updates, expected)
    chex.assert_trees_all_equal_dtypes(updates, params)


def test_gradients_of_another_dtype_keep_it():
    params = {"w": jnp.ones(3), "b": jnp.ones(2)}
    gradients = {"w": jnp.ones(3, jnp.bfloat16), "b": jnp.ones(2)}
    tx = adaptax.packed(adaptax.momentum(0.1))
    updates, _ = tx.update(gradients, tx.init(params), params)
    chex.assert_trees_all_equal_dtypes(updates, gradients)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"vector": jnp.ones(4)}, r"has \(3,\) at \['vector'\].*got \(4,\)"),
        ({"vector": {}}, r"has \(3,\) at \['vector'\].*got no leaf"),
        ({"more": jnp.ones(4)}, r"has no leaf at \['more'\]"),
    ],
    ids=["shape", "missing", "more"],
)
def test_gradients_of_other_parameters_are_refused_by_path(change, path):
    tx = adaptax.packed(adaptax.momentum(0.1), elementwise=True)
    with pytest.raises(ValueError, match=path):
        tx.update({**tree(), **change}, tx.init(tree()))


def test_a_line_search_evaluates_the_loss_at_the_tree():
    def loss(params):
        return sum(jnp.sum((leaf - 1) ** 2) for leaf in jax.tree.leaves(params))

    searched = optax.scale_by_backtracking_linesearch(10)
    tx = optax.chain(adaptax.momentum(1.0), searched)
    params, updates = {"w": jnp.zeros(3), "b": jnp.zeros(())}, []
    for each in (tx, adaptax.packed(tx)):
        gradient = jax.grad(loss)(params)
        extra_args = {"value": loss(params), "grad": gradient, "value_fn": loss}
        with jax.numpy_dtype_promotion("standard"):
            state = each.init(params)
            updates.append(each.update(gradient, state, params, **extra_args)[0])
    chex.assert_trees_all_close(*updates, rtol=1e-6)


def test_rates_are_read_and_set_through_it(packed):
    state = packed[1]
    assert float(adaptax.learning_rate(state)) == np.float32(0.1)
    changed = adaptax.set_learning_rate(state, 0.5)
    assert float(adaptax.learning_rate(changed)) == 0.5
    assert "constant/learning_rate" in adaptax.telemetry(state)


def grouped(tx):
    labels = {"matrix": "a", "vector": "b", "scalar": "a", "large": "b"}
    return optax.partition({"a": tx, "b": optax.set_to_zero()}, labels)


WRAPS = {
    "itself": lambda tx: tx,
    "chain": lambda tx: optax.chain(tx, optax.scale(1.0)),
    "partition": grouped,
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_parameters_to_evaluate_are_found_through_it(wrap):
    inner = adaptax.schedule_free_sgd(0.1)
    params, state = trained(WRAPS[wrap](inner))
    expected = adaptax.eval_params(state, params)
    ours, packed_state = trained(WRAPS[wrap](adaptax.packed(inner)))
    assert not np.allclose(expected["matrix"], params["matrix"])
    evaluated = adaptax.eval_params(packed_state, ours)
    chex.assert_trees_all_close(evaluated, expected, rtol=1e-6)


def test_a_state_for_other_parameters_is_refused():
    state = adaptax.packed(adaptax.momentum(0.1)).init({"w": 1.0})
    with pytest.raises(ValueError, match=r"no leaf \['w'\]"):
        adaptax.unpack_state(state, {"a": 1.0, "b": 1.0})


def test_sharded_leaves_stay_where_they_are():
    mesh = Mesh(np.array(jax.devices()), ("devices",))
    rows = NamedSharding(mesh, PartitionSpec("devices"))
    whole = NamedSharding(mesh, PartitionSpec())
    params = jax.device_put(
        {"a": jnp.ones((8, 2)), "b": jnp.ones(3), "c": jnp.ones(5), "d": jnp.ones(16)},
        {"a": rows, "b": whole, "c": whole, "d": rows},
    )
    tx = adaptax.packed(adaptax.adam(0.1))
    state = tx.init(params)
    mean = state.inner_state[0].mean
    assert jax.tree.map(jnp.shape, mean) == PackedTree(
        {"float32": (8,)}, ((8, 2), (16,))
    )
    compiled = jax.jit(tx.update).lower(params, state, params).compile()
    for collective in ("all-gather", "all-reduce", "all-to-all", "permute"):
        assert collective not in compiled.as_text()
    updates, state = compiled(params, state, params)
    assert updates["a"].sharding.is_equivalent_to(rows, 2)
    assert state.inner_state[0].mean.apart[0].sharding.is_equivalent_to(rows, 2)


def test_a_state_of_another_layout_differs_in_structure():
    states = [
        adaptax.packed(adaptax.momentum(0.1), largest=size).init(tree())
        for size in (4, 100)
    ]
    assert all(isinstance(state, PackedState) for state in states)
    assert jax.tree.structure(states[0]) != jax.tree.structure(states[1])


def test_a_size_below_zero_is_refused():
    with pytest.raises(ValueError, match="largest must be >= 0, got -1"):
        adaptax.packed(adaptax.momentum(0.1), largest=-1)


def test_flax_nnx_trains_with_it():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        tx = adaptax.packed(adaptax.schedule_free_sgd(0.1))
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        loss = nnx.grad(lambda model: jnp.sum(model(jnp.ones((1, 3))) ** 2))
        for _ in range(2):
            optimizer.update(model, loss(model))
        params = nnx.state(model, nnx.Param)
        evaluated = adaptax.eval_params(optimizer, params)
    assert float(adaptax.learning_rate(optimizer)) == np.float32(0.1)
    chex.assert_trees_all_equal_shapes(evaluated, params)
    assert not np.allclose(evaluated["kernel"][...], params["kernel"][...])
