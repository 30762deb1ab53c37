"""Regrouping: whether a transformation asks in which leaves its coordinates lie.

    T([x₁, x₂]) = [T(x₁), T(x₂)]        each coordinate alone, or all of them together

Adam does not ask, nor does a clip by the global norm; norms by leaf, matrices and masks
by the number of dimensions do. Nothing in a transformation says so, so it is tried.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.extend.core import jaxpr_as_fun

from adaptax._core.checks import require
from adaptax._core.leaves import dtype_of, global_norm
from adaptax.wrappers.packing.layout import gather, layout_of, scatter

_STEPS = 128
_SHAPES = {"matrix": (2, 3), "vector": (3,), "apart": (5,)}
_BYTES = 24
"""Of the larger of the two leaves that are packed."""

_REMEDY = (
    "Pack the part of it that may be packed, as in optax.chain(other, "
    "packed(direction)), or leave it unpacked."
)


def require_regroupable(inner: optax.GradientTransformationExtraArgs) -> None:
    """Raise if a transformation gives something else to a tree that is packed.

    It is tried on a tree of 14 numbers, for 128 steps along gradients of all sizes.
    Hyperparameters that are traced are tried at 0.3, and whole numbers at 2.

    Raises:
        ValueError: If it does, or if it cannot be tried.
    """
    name = _name_of(inner.update)
    try:
        with jax.disable_jit(False):
            differences = _differences(inner)
    except Exception as error:
        raise ValueError(
            f"packed({name}) could not be tried on a small tree: {error}\nIf it treats "
            "every coordinate alone, say so: packed(inner, elementwise=True)."
        ) from error
    require(
        bool(np.all(differences < 1e-3)),
        f"packed({name}) is refused: packed only works for transformations that treat "
        "every coordinate alone, or all of them together. This one gives other updates "
        "when leaves are put together: it looks at single leaves, as at their norms or "
        f"shapes. {_REMEDY}",
    )


def _differences(inner) -> np.ndarray:
    """Return how far the updates of a packed tree are from the tree's, by step."""
    traced = jax.make_jaxpr(lambda: _compared(inner))()
    program = traced.replace(consts=[_sample(value) for value in traced.consts])
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.jit(jaxpr_as_fun(program))()[0])


def _sample(constant: Any) -> Any:
    """Stand in for a traced hyperparameter, of which there is no value yet."""
    if not isinstance(constant, Tracer):
        return constant
    with jax.ensure_compile_time_eval():
        if jnp.issubdtype(constant.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), constant.shape)
        value = 0.3 if jnp.issubdtype(constant.dtype, jnp.floating) else 2
        return jnp.full(constant.shape, value, constant.dtype)


def _compared(inner) -> jax.Array:
    feed = _feed()
    params = jax.tree.map(lambda x: x[0], feed.params)
    layout = layout_of(params, _BYTES)

    def packed(tree):
        return gather(layout, jax.tree.leaves(tree))

    def step(states, fed):
        plain, state = _updated(inner, fed, states[0])
        other = fed._replace(gradients=packed(fed.gradients), params=packed(fed.params))
        ours, packed_state = _updated(inner, other, states[1])
        pairs = zip(jax.tree.leaves(plain), scatter(layout, ours), strict=True)
        distance = global_norm([one - other for one, other in pairs])
        difference = jnp.where(distance == 0, 0, distance / global_norm(plain))
        return (state, packed_state), difference

    states = inner.init(params), inner.init(packed(params))
    return jax.lax.scan(step, states, feed)[1]


class _Feed(NamedTuple):
    gradients: Any
    params: Any
    value: Any


def _feed() -> _Feed:
    """Make gradients of all sizes, parameters and falling losses, by step."""
    random = np.random.default_rng(0)

    def sized(shape):
        powers = random.uniform(-3, 4, size=(_STEPS, *(1 for _ in shape)))
        return 10**powers * random.normal(size=(_STEPS, *shape))

    def made(make):
        return {
            name: jnp.asarray(make(shape).astype(np.float32))
            for name, shape in _SHAPES.items()
        }

    value = np.exp(-np.arange(_STEPS) / 8).astype(np.float32)
    return _Feed(made(sized), made(sized), jnp.asarray(value))


def _updated(inner, fed, state):
    """Update with all the arguments that some transformation may need."""

    def loss(params, grad_fn=None, micro_norms=None, key=None):
        del grad_fn, micro_norms, key  # line searches of Optax hand on all they get

        def bowl(there, here, slope):
            return jnp.sum(slope * (there - here) + (there - here) ** 2 / 2)

        parts = jax.tree.map(bowl, params, fed.params, fed.gradients)
        return sum(jax.tree.leaves(parts), fed.value)

    updates, new = inner.update(
        fed.gradients,
        state,
        fed.params,
        value=fed.value,
        grad=fed.gradients,
        value_fn=loss,
        grad_fn=jax.grad(loss),
        micro_norms=fed.value * jnp.arange(1, 4, dtype=jnp.float32),
        key=jax.random.key(0),
    )
    return updates, jax.tree.map(_typed, new, state)


def _typed(new, old):
    """Keep the type that a part of a state had, as the carry of a scan must."""
    same = dtype_of(new) == dtype_of(old)
    return new if same else jnp.asarray(new).astype(dtype_of(old))


def _name_of(update: Any) -> str:
    """Name what a transformation was made by, and the parts of a chain."""
    name = getattr(update, "__qualname__", repr(update)).split(".")[0]
    cells = [cell.cell_contents for cell in getattr(update, "__closure__", ()) or ()]
    for cell in cells:
        if name == "with_extra_args_support" and isinstance(cell, tuple):
            return _name_of(cell[1])
        if name == "chain" and isinstance(cell, tuple):
            return f"{name}({', '.join(map(_name_of, cell))})"
    return name
