"""Masks: selections of the leaves of a tree.

    mask: a tree of booleans like the parameters, a prefix of one, or a function of them

A mask that is a callable pytree, such as an Equinox model, is a tree and not a function
if its leaves are booleans.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax


def spread(
    name: str, mask: Any | Callable[[optax.Params], Any], params: optax.Params
) -> Any:
    """Return a tree of booleans, one for each leaf of the parameters.

    Args:
        name: The argument's name, for messages.
        mask: The mask.
        params: The parameters.

    Raises:
        ValueError: If the mask is not a prefix of the parameters' tree.
        TypeError: If one of its leaves is not a boolean.
    """
    tree = mask(params) if _is_function(mask) else mask

    def fill(chosen, subtree):
        if not _is_boolean(chosen):
            raise TypeError(f"{name} must have booleans as leaves, got {chosen!r}.")
        return jax.tree.map(lambda _: bool(chosen), subtree)

    try:
        return jax.tree.map(fill, tree, params)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} must be a tree of booleans like the parameters, a prefix of one, "
            f"or a function that returns one: {error}"
        ) from error


def _is_function(mask: Any) -> bool:
    """Return whether a mask is a function; a callable tree of booleans is not."""
    if not callable(mask):
        return False
    leaves = jax.tree.leaves(mask)
    booleans = bool(leaves) and all(map(_is_boolean, leaves))
    return isinstance(mask, jax.tree_util.Partial) or not booleans


def _is_boolean(leaf: Any) -> bool:
    if isinstance(leaf, bool | np.bool_):
        return True
    return isinstance(leaf, np.ndarray | jax.Array) and leaf.dtype == bool
