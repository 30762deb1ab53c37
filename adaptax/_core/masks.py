"""Masks: to which leaves of a tree something applies.

    mask: a tree of booleans like the parameters, a prefix of one, or a function of them

A model may be a pytree that can be called, as those of Equinox can, and so may a model
of booleans in its place. Its leaves decide: a tree of booleans is no function.
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
        ValueError: If the mask is no prefix of the parameters' tree.
        TypeError: If a leaf of it is no boolean.
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
            f"or a function that makes one of them: {error}"
        ) from error


def _is_function(mask: Any) -> bool:
    """Return whether to call a mask: not if it is a tree of booleans that could be."""
    if not callable(mask):
        return False
    leaves = jax.tree.leaves(mask)
    booleans = bool(leaves) and all(map(_is_boolean, leaves))
    return isinstance(mask, jax.tree_util.Partial) or not booleans


def _is_boolean(leaf: Any) -> bool:
    if isinstance(leaf, bool | np.bool_):
        return True
    return isinstance(leaf, np.ndarray | jax.Array) and leaf.dtype == bool
