"""Packed parameters: the same tree, the same derivatives, the same steps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptax
from adaptax.wrappers.packing import layout


def params():
    random = np.random.default_rng(0)
    return {
        "layers": [
            {"w": jnp.asarray(random.normal(size=(4, 3)).astype(np.float32)), "b": x}
            for x in (jnp.ones(3), jnp.zeros(3))
        ],
        "scale": jnp.ones(()),
        "half": jnp.ones(5, jnp.bfloat16),
        "large": jnp.ones((2, 40_000)),
        "none": None,
    }


def loss(tree):
    first, second = tree["layers"]
    hidden = jnp.tanh(first["w"] @ jnp.arange(3.0) * tree["scale"])
    total = jnp.sum((second["w"].T @ hidden + first["b"] - second["b"]) ** 2)
    return total + jnp.sum(tree["half"].astype(jnp.float32)) + tree["large"].mean()


def of_packed(packed):
    return loss(adaptax.unpack(packed))


def test_unpacking_gives_the_tree_back():
    packed = adaptax.pack(params())
    assert jax.tree.map(jnp.shape, packed.buffers) == {
        "bfloat16": (5,),
        "float32": (31,),
    }
    assert [leaf.shape for leaf in packed.apart] == [(2, 40_000)]
    chex.assert_trees_all_equal(adaptax.unpack(packed), params())


def test_shapes_are_packed_alike():
    shapes = jax.eval_shape(lambda: params())
    chex.assert_trees_all_equal_shapes_and_dtypes(
        adaptax.pack(shapes), adaptax.pack(params())
    )


def test_the_gradient_is_that_of_the_tree():
    value, gradient = jax.value_and_grad(of_packed)(adaptax.pack(params()))
    expected_value, expected = jax.value_and_grad(loss)(params())
    assert value == expected_value
    chex.assert_trees_all_close(adaptax.unpack(gradient), expected, rtol=1e-6)


def test_the_gradient_is_one_concatenation():
    shapes = ((2, 3), (3,), ())
    transposed = jax.make_jaxpr(
        lambda x: jax.vjp(lambda x: layout.cut(shapes, x), x)[1](
            [jnp.ones(shape) for shape in shapes]
        )
    )(jnp.ones(10))
    text = str(transposed)
    assert text.count("concatenate") == 1
    assert "pad" not in text
    assert "add_any" not in text


def test_hundreds_of_leaves_are_concatenated_in_levels():
    leaves = [jnp.full(2, float(number)) for number in range(150)]

    def total(packed):
        return sum(i * x.sum() for i, x in enumerate(adaptax.unpack(packed)))

    packed = adaptax.pack(leaves)
    chex.assert_trees_all_equal(adaptax.unpack(packed), leaves)
    gradient = jax.grad(total)(packed)
    expected = [jnp.full(2, float(number)) for number in range(150)]
    chex.assert_trees_all_equal(adaptax.unpack(gradient), expected)


def test_it_can_be_differentiated_forward_and_twice():
    packed, tree = adaptax.pack(params()), params()
    direction = jax.tree.map(jnp.ones_like, tree)
    along = adaptax.pack(direction, like=packed)
    _, ours = jax.jvp(jax.grad(of_packed), (packed,), (along,))
    _, expected = jax.jvp(jax.grad(loss), (tree,), (direction,))
    chex.assert_trees_all_close(adaptax.unpack(ours), expected, rtol=1e-4, atol=1e-5)


def test_many_may_be_unpacked_at_once():
    trees = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params())
    packed = jax.vmap(adaptax.pack)(trees)
    chex.assert_trees_all_equal(jax.vmap(adaptax.unpack)(packed), trees)


def test_optimizers_step_through_it_alike_without_tracing_again():
    tx, traces = adaptax.adam(0.01), []

    def run(start, loss):
        def step(params, state):
            traces.append("traced")
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        step = jax.jit(step, donate_argnums=(0, 1))
        state = tx.init(start)
        for _ in range(3):
            start, state = step(start, state)
        return start, state

    packed, state = run(adaptax.pack(params()), of_packed)
    assert len(traces) == 1
    expected, plain_state = run(params(), loss)
    chex.assert_trees_all_close(adaptax.unpack(packed), expected, rtol=1e-5)
    unpacked = adaptax.unpack_state(state, params())
    chex.assert_trees_all_equal_structs(unpacked, plain_state)
    chex.assert_trees_all_close(unpacked, plain_state, rtol=1e-4)


def test_gradients_of_another_tree_are_refused():
    packed = adaptax.pack({"w": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"\(3,\) at \['w'\].*got \(4,\)"):
        adaptax.pack({"w": jnp.ones(4)}, like=packed)


def test_xla_does_not_learn_where_a_buffer_is_cut():
    """Else it compiles a kernel for each leaf, though most have the same shape."""
    shapes = ((3,),) * 5
    text = jax.jit(lambda x: layout.cut(shapes, x)).lower(jnp.ones(15)).compile()
    assert " conditional(" in text.as_text()
    assert " dynamic-slice(" in text.as_text()


def test_a_trial_may_hold_its_parameters_packed():
    x = jnp.linspace(-1, 1, 8)

    def make(init, loss):
        return adaptax.trial(
            init,
            loss,
            lambda hparams: adaptax.adam(hparams["learning_rate"]),
            {"x": x, "y": 3 * x - 1},
        )

    def loss(line, batch):
        return jnp.mean((line["slope"] * batch["x"] + line["shift"] - batch["y"]) ** 2)

    def init(key):
        return {"slope": jax.random.normal(key), "shift": jnp.zeros(())}

    trials = (
        make(init, loss),
        make(
            lambda key: adaptax.pack(init(key)),
            lambda packed, batch: loss(adaptax.unpack(packed), batch),
        ),
    )
    space = {"learning_rate": jnp.asarray([0.1, 0.3])}
    expected, packed = (
        adaptax.sweep(trial, space, num_steps=5, progress=False) for trial in trials
    )
    np.testing.assert_allclose(packed.losses, expected.losses, rtol=1e-5)
