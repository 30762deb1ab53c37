"""On a mesh with explicit axes everything runs, and states stay spread as they were."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance.cases import CASES, start
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import adaptax
from adaptax._core import meshes

MESH = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
SPECS = {
    "matrix": PartitionSpec("data", "model"),
    "scalar": PartitionSpec(),
    "rows": PartitionSpec("data"),
    "columns": PartitionSpec(None, "model"),
    "square": PartitionSpec("model", "data"),
    "vector": PartitionSpec("data"),
    "bias": PartitionSpec(),
    "kernel": PartitionSpec(None, "data", "model"),
}


def whole():
    """Make parameters on one device."""
    random = np.random.default_rng(0)
    shapes = {
        "rows": (8, 4),
        "columns": (3, 8),
        "square": (8, 8),
        "vector": (8,),
        "bias": (3,),
        "kernel": (2, 4, 2),
    }
    more = {name: random.normal(size=shape) for name, shape in shapes.items()}
    return {**start(), **jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), more)}


def spread():
    """Make the same, spread over the mesh."""
    places = {name: NamedSharding(MESH, spec) for name, spec in SPECS.items()}
    return jax.device_put(whole(), places)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_catalogue_runs_on_an_explicit_mesh(case):
    params, optimizer = spread(), case.optimizer()

    def steps(params, state):
        for _ in range(2):
            value = jnp.sum(params["scalar"])
            updates, state = case.update(optimizer, params, state, params, value)
            params = optax.apply_updates(params, updates)
        return params, state

    with jax.set_mesh(MESH):
        state = jax.eval_shape(jax.jit(optimizer.init), params)
        moved, after = jax.eval_shape(steps, params, state)
    for name, leaf in moved.items():
        assert spread_over(leaf) == spread_over(params[name]), name
    pairs = zip(jax.tree.leaves_with_path(after), jax.tree.leaves(state), strict=True)
    for (path, ours), given in pairs:
        where = jax.tree_util.keystr(path)
        assert spread_over(ours) == spread_over(given), where


def spread_over(leaf):
    """Return the axes of the mesh by axis of an array."""
    axes = tuple(leaf.sharding.spec) if leaf.sharding is not None else ()
    return axes + (None,) * (leaf.ndim - len(axes))


def kernels(params):
    """Name what has two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


@pytest.mark.parametrize(
    "make",
    [
        lambda: adaptax.muon(0.1),
        lambda: adaptax.muon(0.1, matrices=kernels),
        lambda: adaptax.prodigy(d0=0.1, slice_p=4),
        lambda: adaptax.self_tuning(direction="muon", d0=0.1),
        lambda: adaptax.packed(adaptax.adamw(0.1)),
        lambda: adaptax.quantized(adaptax.adamw(0.1), 4, smallest=1),
    ],
    ids=["muon", "kernels", "slices", "self_tuning", "packed", "quantized"],
)
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_steps_on_an_explicit_mesh_are_those_on_one_device(make, jit):
    optimizer, moved = make(), []
    for params in (whole(), spread()):
        state = optimizer.init(params)
        step = jax.jit(optimizer.update) if jit else optimizer.update
        for _ in range(2):
            updates, state = step(params, state, params)
            params = optax.apply_updates(params, updates)
        moved.append(jax.tree.map(np.asarray, params))
    for name, leaf in moved[0].items():
        np.testing.assert_allclose(moved[1][name], leaf, rtol=1e-4, atol=1e-6)


def test_a_loss_of_packed_parameters_runs_on_an_explicit_mesh():
    packed = adaptax.pack(spread())
    assert {name: leaf.shape for name, leaf in packed.buffers.items()} == {
        "float32": (4,)
    }
    gradients = jax.jit(jax.grad(lambda p: sum_of_squares(adaptax.unpack(p))))(packed)
    np.testing.assert_allclose(
        adaptax.unpack(gradients)["bias"], 2 * whole()["bias"], rtol=1e-6
    )


def sum_of_squares(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def test_without_explicit_axes_nothing_is_done():
    automatic = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(automatic, PartitionSpec("data"))
    for array in (jnp.ones(8), jax.device_put(jnp.ones(8), rows)):
        assert meshes.spec_of(array) is None
    assert meshes.by_compiler(lambda x, y: x + y, 1.0, 2.0) == 3.0
