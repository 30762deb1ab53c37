"""Guards: what every transformation asks of its trees before it computes.

    init(params):              each leaf is one that can be trained, or is left alone
    update(updates, params):   the same structure, and the same shape in each leaf

A `None` or an `optax.MaskedNode` stands for a leaf that takes no part: frozen leaves
have gradients of `None`. Both checks look at structures, shapes and dtypes alone, so
that a compiled step does not contain them. What is refused is named by its path.
"""

import functools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from adaptax._core.handover import Takes, offer
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
    transformation: _T, *, whole: bool = False, takes: Takes | None = None
) -> _T:
    """Return a transformation that refuses what it would train wrongly or not at all.

    Its `init` raises `ValueError` for leaves that cannot be trained, and its `update`
    for gradients that do not fit the parameters, if it is given any.

    Args:
        transformation: The transformation.
        whole: Whether its whole state hangs on scalars that are made of all the
            gradients, or of the loss. Inside of `jax.shard_map` it then varies from the
            start as the parameters do.
        takes: What its state can be made of; see `adaptax._core.handover`.
    """
    inner_init, inner_update = transformation

    @functools.wraps(inner_init)
    def init(params):
        require_trainable(params)
        state = inner_init(params)
        state = spread(state, axes_of(params)) if whole else state
        return state if takes is None else offer(state, takes)

    @functools.wraps(inner_update)
    def update(updates, state, params=None, **extra_args):
        require_like(updates, params)
        return inner_update(updates, state, params, **extra_args)

    return transformation._replace(init=init, update=update)


def require_like(updates: optax.Updates, params: optax.Params | None) -> None:
    """Raise unless updates have the structure and the shapes of the parameters.

    Raises:
        ValueError: If they differ, or if an update is complex where the parameter is
            real; the message names the first path that does.
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
    """Return the leaves of a tree, placeholders among them, and its structure."""
    return jax.tree.flatten(updates, is_leaf=is_placeholder)


def require_matching(
    updates: optax.Updates, leaves: list[Any], structure: Any, tree: Any, whose: str
) -> list[Any]:
    """Return the leaves of a tree in the order of those of the updates.

    Args:
        updates: The updates, for messages.
        leaves: Their leaves, as from `flattened`.
        structure: Their structure, likewise.
        tree: A tree with a leaf, or a placeholder, for each of theirs.
        whose: Subject and verb of the message: "the parameters have".

    Raises:
        ValueError: If structures or the shapes of two trained leaves differ.
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
    """Return whether a leaf, or a mask of any subtree, has its like in another tree."""
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
    """Name the first container whose type differs, where all paths are the same."""
    pairs = [("", updates, tree)]
    for path, one, other in pairs:  # which grows
        if type(one) is not type(other):
            kinds = type(one).__name__, type(other).__name__
            return f"{path or 'the root'}, a {kinds[0]} in the place of a {kinds[1]}"
        parts = _children(one), _children(other)
        pairs.extend(
            (path + key, part, parts[1][key]) for key, part in parts[0].items()
        )
    return "the root"


def _children(node: Any) -> dict[str, Any]:
    pairs = jax.tree.leaves_with_path(node, is_leaf=lambda part: part is not node)
    return {jax.tree_util.keystr(path): part for path, part in pairs if path}
