"""Guards: the checks that every transformation makes on its trees.

    init(params):              each leaf can be trained, or is left alone
    update(updates, params):   the same structure, and the same shape in each leaf

`None` and `optax.MaskedNode` stand for leaves that are not trained; the gradient of a
frozen leaf may be `None`. The checks read only structures, shapes and dtypes, so they
cost nothing in a compiled step. Their messages name the path of the leaf at fault.
"""

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from adaptax._core.handover import Conversions, offer
from adaptax._core.leaves import (
    dtype_of,
    is_complex,
    is_placeholder,
    is_trained,
    require_trainable,
)
from adaptax._core.varying import axes_of, spread

_T = TypeVar("_T", bound=optax.GradientTransformation)


def guarded(
    transformation: _T, *, whole: bool = False, conversions: Conversions | None = None
) -> _T:
    """Return a transformation with checks of its arguments.

    Its `init` raises `ValueError` for leaves that cannot be trained. Its `update` does
    for gradients that do not match the parameters, if it is given parameters.

    Args:
        transformation: The transformation.
        whole: Whether all of its state depends on scalars computed from all gradients
            or from the loss. Inside `jax.shard_map`, its initial state then varies over
            the same axes as the parameters.
        conversions: How to make its state from Optax's; see `adaptax._core.handover`.
    """
    inner_init, inner_update = transformation

    @functools.wraps(inner_init)
    def init(params):
        require_trainable(params)
        state = inner_init(params)
        state = spread(state, axes_of(params)) if whole else state
        return state if conversions is None else offer(state, conversions)

    @functools.wraps(inner_update)
    def update(updates, state, params=None, **extra_args):
        require_like(updates, params)
        return inner_update(updates, state, params, **extra_args)

    return transformation._replace(init=init, update=update)


def require_like(updates: optax.Updates, params: optax.Params | None) -> None:
    """Raise unless updates have the structure and the shapes of the parameters.

    Raises:
        ValueError: If they differ, or if an update is complex and its parameter real;
            the message names the first such path.
    """
    if params is None:
        return
    leaves, structure = flattened(updates)
    column = require_matching(updates, leaves, structure, params, "the parameters have")
    for index, (leaf, param) in enumerate(zip(leaves, column, strict=True)):
        both = is_trained(leaf) and is_trained(param)
        if both and is_complex(leaf) and not is_complex(param):
            path = jax.tree_util.keystr(_paths(updates)[index])
            raise ValueError(
                f"the update at {path or 'the root'} has dtype {dtype_of(leaf)}, where "
                f"the parameters have {dtype_of(param)}. Take its real part, or make "
                "the parameters complex."
            )


def flattened(updates: optax.Updates) -> tuple[list[Any], Any]:
    """Return the leaves of a tree, placeholders included, and its structure."""
    return jax.tree.flatten(updates, is_leaf=is_placeholder)


def require_matching(
    updates: optax.Updates, leaves: list[Any], structure: Any, tree: Any, whose: str
) -> list[Any]:
    """Return the leaves of a tree that match those of the updates, in their order.

    Args:
        updates: The updates, for messages.
        leaves: The leaves of the updates, from `flattened`.
        structure: The structure of the updates, from `flattened`.
        tree: A tree with a leaf, or a placeholder, for each leaf of the updates.
        whose: Subject and verb for the message, such as "the parameters have".

    Raises:
        ValueError: If the structures differ, or the shapes of two trained leaves.
    """
    try:
        column = structure.flatten_up_to(tree)
        fits = all(map(_is_in_place, leaves, column))
    except (ValueError, TypeError, KeyError):
        fits, column = False, []
    if not fits:
        raise ValueError(
            f"the updates and what {whose} differ in structure at "
            f"{_first_difference(updates, tree)}. {_REMEDY}"
        )
    for index, (leaf, other) in enumerate(zip(leaves, column, strict=True)):
        both = is_trained(leaf) and is_trained(other)
        if both and jnp.shape(leaf) != jnp.shape(other):
            path = jax.tree_util.keystr(_paths(updates)[index])
            raise ValueError(
                f"the update at {path or 'the root'} has shape {jnp.shape(leaf)}, "
                f"where {whose} {jnp.shape(other)}. {_REMEDY}"
            )
    return column


_REMEDY = "Pass gradients of the parameters that init was given."


def _is_in_place(leaf: Any, node: Any) -> bool:
    """Return whether a node matches a leaf; an `optax.MaskedNode` matches a subtree."""
    bare = jax.tree_util.treedef_is_leaf(jax.tree.structure(node))
    return bare or is_placeholder(node) or isinstance(leaf, optax.MaskedNode)


def _paths(tree: Any) -> list[Any]:
    pairs = jax.tree.leaves_with_path(tree, is_leaf=is_placeholder)
    return [path for path, _ in pairs]


def _first_difference(updates: Any, tree: Any) -> str:
    ours, theirs = _paths(updates), _paths(tree)
    for path in ours:
        if path not in theirs:
            return jax.tree_util.keystr(path) or "the root"
    for path in theirs:
        if path not in ours:
            return jax.tree_util.keystr(path) or "the root"
    return _first_of_another_type(updates, tree)


def _first_of_another_type(updates: Any, tree: Any) -> str:
    """Return the path of the first container whose type differs."""
    pairs = [("", updates, tree)]
    for path, one, other in pairs:  # grows in the loop
        if type(one) is not type(other):
            kinds = type(one).__name__, type(other).__name__
            return f"{path or 'the root'}, a {kinds[0]} instead of a {kinds[1]}"
        parts = _children(one), _children(other)
        pairs.extend(
            (path + key, part, parts[1][key]) for key, part in parts[0].items()
        )
    return "the root"


def _children(node: Any) -> dict[str, Any]:
    pairs = jax.tree.leaves_with_path(node, is_leaf=lambda part: part is not node)
    return {jax.tree_util.keystr(path): part for path, part in pairs if path}
