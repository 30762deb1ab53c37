"""Varying: what differs between the devices inside of `jax.shard_map`, by type.

There a value is known to vary over some axes of the mesh, or to be the same on all
devices: `float32[]{V:d}` is no `float32[]`. Both branches of a conditional, and what
goes into a loop and comes out of it, must agree in that. With parameters of their own
on each device, whatever is made of them varies; a constant, such as a scalar of the
first state, has to be declared to.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer


def axes_of(*trees: Any) -> frozenset[str]:
    """Return the axes of the mesh over which some leaf of the trees varies."""
    return frozenset().union(*map(_axes_of_leaf, jax.tree.leaves(trees)))


def spread(tree: Any, axes: frozenset[str]) -> Any:
    """Return a tree whose leaves vary at least over these axes."""
    if not axes:
        return tree

    def leaf(array):
        missing = axes - _axes_of_leaf(array)
        return jax.lax.pcast(array, tuple(missing), to="varying") if missing else array

    return jax.tree.map(leaf, tree)


def cond(
    predicate: jax.Array,
    then: Callable[..., Any],
    otherwise: Callable[..., Any],
    *operands: Any,
    over: Any = (),
) -> Any:
    """Choose a function as `jax.lax.cond` does; what it gives varies as what is given.

    Args:
        predicate: A boolean scalar.
        then: The function to call with the operands where it is true.
        otherwise: The function to call where it is false.
        operands: The operands.
        over: Trees of what else the functions read.
    """
    axes = axes_of(predicate, operands, over)

    def aligned(function):
        return lambda *operands: spread(function(*operands), axes)

    if axes:
        then, otherwise = aligned(then), aligned(otherwise)
    return jax.lax.cond(predicate, then, otherwise, *operands)


def _axes_of_leaf(leaf: Any) -> frozenset[str]:
    if not isinstance(leaf, Tracer):
        return frozenset()
    kind = getattr(jax.typeof(leaf), "manual_axis_type", None)
    return frozenset(getattr(kind, "varying", ()))
