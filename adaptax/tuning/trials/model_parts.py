"""The parts of a model that are trained, carried in the state, or fixed.

    model = trained + carried + fixed

A model may be a tree that contains functions, strings and integers besides arrays, such
as an Equinox module. Real and complex arrays are trained, other arrays are carried in
the state, and everything else is the same in each step of each run.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp


def arrays_of(model: Any) -> Any:
    """Return a model with `None` in place of everything that is fixed."""
    return _where(model, fixed=False)


def fixed_of(model: Any) -> Any:
    """Return a model with `None` in place of its arrays."""
    return _where(model, fixed=True)


def trained_of(arrays: Any) -> Any:
    """Return arrays with `None` in place of integers and booleans."""

    def is_carried(leaf):
        kind = jnp.result_type(leaf)
        return jnp.issubdtype(kind, jnp.integer) or kind == jnp.bool_

    return jax.tree.map(lambda leaf: None if is_carried(leaf) else leaf, arrays)


def joined(part: Any, rest: Any) -> Any:
    """Replace `None` in a part of a model by the leaves of the rest."""
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        part,
        rest,
        is_leaf=lambda node: node is None,
    )


def _where(model: Any, *, fixed: bool) -> Any:
    """Return the fixed part of a model, or the rest.

    A number may be a parameter, but not in an Equinox module.
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
