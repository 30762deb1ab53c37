"""Model parts: what of a model is trained, what is carried along, and what is fixed.

    model = trained + carried + fixed

A model may be a tree with functions, texts and whole numbers beside its arrays, as
those of Equinox are. Real and complex arrays are trained, other arrays are carried in
the state, and what is no array is the same in each step of each run.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp


def arrays_of(model: Any) -> Any:
    """Return a model with `None` in the place of everything that is fixed."""
    return _where(model, fixed=False)


def fixed_of(model: Any) -> Any:
    """Return a model with `None` in the place of its arrays."""
    return _where(model, fixed=True)


def trained_of(arrays: Any) -> Any:
    """Return arrays with `None` in the place of integers and booleans."""

    def is_carried(leaf):
        kind = jnp.result_type(leaf)
        return jnp.issubdtype(kind, jnp.integer) or kind == jnp.bool_

    return jax.tree.map(lambda leaf: None if is_carried(leaf) else leaf, arrays)


def joined(part: Any, rest: Any) -> Any:
    """Fill the places that are `None` in a part of a model from the rest of it."""
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        part,
        rest,
        is_leaf=lambda node: node is None,
    )


def _where(model: Any, *, fixed: bool) -> Any:
    """Keep what is fixed, or what is not.

    A number may be a parameter; in a module of Equinox only arrays are.
    """

    def keep(leaf, kinds):
        is_array = hasattr(leaf, "dtype") or isinstance(leaf, kinds)
        return leaf if is_array != fixed else None

    def visit(node):
        if _is_equinox(node):
            return jax.tree.map(lambda leaf: keep(leaf, ()), node)
        return keep(node, float | complex)

    return jax.tree.map(visit, model, is_leaf=_is_equinox)


def _is_equinox(node: Any) -> bool:
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(node, equinox.Module)
