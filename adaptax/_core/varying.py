"""Values that vary between devices inside `jax.shard_map`.

There the type of a value says whether it varies over an axis of the mesh or is the same
on all devices: `float32[]{V:d}` is not `float32[]`. The branches of a conditional must
have the same types, and so must the carry of a loop. Everything computed from
parameters that vary does too; a constant, such as a scalar of the initial state, must
be declared to vary.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.core import Tracer


def axes_of(*trees: Any) -> frozenset[str]:
    """Return the axes of the mesh over which any leaf of the trees varies."""
    return frozenset().union(*map(_axes_of_leaf, jax.tree.leaves(trees)))


def spread(tree: Any, axes: frozenset[str]) -> Any:
    """Declare that the leaves of a tree vary over these axes."""
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
    """Call `jax.lax.cond`, with results that vary over the axes of all inputs.

    Args:
        predicate: A boolean scalar.
        then: The function to call with the operands if it is true.
        otherwise: The function to call if it is false.
        operands: The operands.
        over: Trees of the arrays that the functions close over.
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
