"""Regrouping: check whether a transformation depends on the leaves of a tree.

    T([x₁, x₂]) = [T(x₁), T(x₂)]        each coordinate alone, or all of them together

Adam and clipping by the global norm do not; norms by leaf, matrices and masks by the
number of dimensions do. This cannot be read off a transformation, so it is applied to a
small tree.
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
"""The size of the larger of the two leaves that are packed."""

_REMEDY = (
    "Pack only the part that allows it, as in optax.chain(other, "
    "packed(direction)), or leave it unpacked."
)


def require_regroupable(inner: optax.GradientTransformationExtraArgs) -> None:
    """Check that a transformation returns the same updates for a packed tree.

    It is applied to a tree of 14 numbers, for 128 steps with gradients of all sizes.
    Traced hyperparameters are replaced by 0.3, and traced integers by 2.

    Raises:
        ValueError: If the updates differ, or if `update` fails.
    """
    name = _name_of(inner.update)
    try:
        with jax.disable_jit(False):
            differences = _differences(inner)
    except Exception as error:
        raise ValueError(
            f"packed({name}) could not be checked on a small tree: {error}\nIf it "
            "treats every coordinate alone, use packed(inner, elementwise=True)."
        ) from error
    require(
        bool(np.all(differences < 1e-3)),
        f"packed({name}) is refused: packed only works for transformations that treat "
        "every coordinate alone, or all of them together. The updates of this one "
        "depend on the leaves, such as their norms or shapes. "
        f"{_REMEDY}",
    )


def _differences(inner) -> np.ndarray:
    """Return the relative difference of a packed tree's updates at each step."""
    traced = jax.make_jaxpr(lambda: _compared(inner))()
    program = traced.replace(consts=[_sample(value) for value in traced.consts])
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.jit(jaxpr_as_fun(program))()[0])


def _sample(constant: Any) -> Any:
    """Return a value for a traced hyperparameter."""
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
    """Return gradients of all sizes, parameters and falling losses, by step."""
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
    """Update with all the arguments that a transformation may need."""

    def loss(params, grad_fn=None, micro_norms=None, key=None):
        del grad_fn, micro_norms, key  # Optax's line searches pass on all they receive

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
    """Cast a part of a state to its previous dtype, as the carry of a scan needs."""
    same = dtype_of(new) == dtype_of(old)
    return new if same else jnp.asarray(new).astype(dtype_of(old))


def _name_of(update: Any) -> str:
    """Return the name of the function that made a transformation; of a chain, all."""
    name = getattr(update, "__qualname__", repr(update)).split(".")[0]
    cells = [cell.cell_contents for cell in getattr(update, "__closure__", ()) or ()]
    for cell in cells:
        if name == "with_extra_args_support" and isinstance(cell, tuple):
            return _name_of(cell[1])
        if name == "chain" and isinstance(cell, tuple):
            return f"{name}({', '.join(map(_name_of, cell))})"
    return name
