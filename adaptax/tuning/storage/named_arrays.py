"""Named arrays: the leaves of a pytree by their paths, as they are saved."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import require


def flatten_names(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree by their paths.

    Raises:
        ValueError: If a key is empty or has a "/".

    >>> flatten_names({"adam": {"b1": 0.9}, "rates": (0.1, 0.2)})
    {'adam/b1': array(0.9), 'rates/0': array(0.1), 'rates/1': array(0.2)}
    """
    named = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        keys = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        for key in keys:
            require(
                key != "" and "/" not in key,
                f'the keys of hyperparameters must not be empty or have a "/" to be '
                f"saved, got {key!r}.",
            )
        named["/".join(keys)] = np.asarray(leaf)
    return named


def unflatten_names(named: dict[str, Any]) -> Any:
    """Undo `flatten_names`: return nested dicts, or the single leaf.

    Tuples, lists and other nodes become dicts as well, with the keys "0", "1" or the
    names of their fields; empty nodes are lost.

    Raises:
        ValueError: If a name is a prefix of others.

    >>> unflatten_names({"adam/b1": 0.9, "rates/0": 0.1, "rates/1": 0.2})
    {'adam': {'b1': 0.9}, 'rates': {'0': 0.1, '1': 0.2}}
    """
    if named.keys() == {""}:
        return named[""]
    tree: dict[str, Any] = {}
    for name, leaf in named.items():
        *above, last = name.split("/")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
            require(isinstance(node, dict), _both(name))
        require(last not in node, _both(name))
        node[last] = leaf
    return tree


def named_like(tree: Any, named: dict[str, Any]) -> Any:
    """Return named values in the structure of another tree."""
    leaves = [named[name] for name in flatten_names(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def leaf_named(tree: Any, name: Any) -> np.ndarray:
    """Return the leaf of a pytree at a path, as in `flatten_names`.

    Raises:
        ValueError: If there is none.
    """
    named = flatten_names(tree)
    require(
        isinstance(name, str) and name in named,
        f"name must be one of {list(named)}, got {name!r}.",
    )
    return named[name]


def prefixed(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    """Add a prefix to names."""
    return {f"{prefix}/{name}": value for name, value in named.items()}


def group(named: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the values with a prefix, which is removed from their names."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): value
        for name, value in named.items()
        if name.startswith(start)
    }


def to_arrays(state: Any) -> dict[str, Any]:
    """Return the arrays of a state by their paths; random keys become their data."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    return {
        jax.tree_util.keystr(path): plain(leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def from_arrays(like: Any, arrays: dict[str, Any]) -> Any:
    """Undo `to_arrays`.

    Args:
        like: A state of the same structure and types, or its types.
        arrays: The arrays from `to_arrays`.
    """

    def typed(path, like):
        array = arrays[jax.tree_util.keystr(path)]
        if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            placed = isinstance(array, jax.Array)  # maybe over several processes
            return array if placed else jax.device_put(array)  # compiles nothing
        return jax.random.wrap_key_data(array, impl=_key_type(like))

    return jax.tree.map_with_path(typed, like)


def _key_type(like: Any) -> Any:
    """Return the implementation of an array of keys, or of its type."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
    return found[0]


def _both(name: str) -> str:
    return f"{name!r} conflicts with another name: one of them is a prefix."
