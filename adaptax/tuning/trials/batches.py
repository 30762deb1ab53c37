"""Batches of a stream: pytrees of arrays that are alike at every step."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import require


def as_arrays(batch: Any, where: str) -> Any:
    """Return a batch as NumPy arrays.

    Raises:
        TypeError: If a leaf is not an array of numbers; the message names its path.
    """

    def array_of(path, leaf):
        try:
            array = np.asarray(leaf)
            jnp.result_type(array)
        except Exception as error:
            raise TypeError(
                f"{where} must be a pytree of arrays of numbers on the host, got "
                f"{type(leaf).__name__} at batch{jax.tree_util.keystr(path)}: {error}"
            ) from error
        return array

    return jax.tree.map_with_path(
        array_of, batch, is_leaf=lambda node: isinstance(node, Iterator)
    )


def require_like(batch: Any, first: Any, where: str) -> None:
    """Check that a batch has the structure, shapes and dtypes of the first one."""
    here, there = jax.tree.structure(batch), jax.tree.structure(first)
    require(
        here == there,
        f"{where} has another structure than the first one: {here}, and not {there}. "
        "All batches must have the same.",
    )
    pairs = zip(jax.tree.leaves_with_path(batch), jax.tree.leaves(first), strict=True)
    for (path, leaf), like in pairs:
        at = f"at batch{jax.tree_util.keystr(path)}"
        require(
            leaf.shape == like.shape,
            f"{where} has the shape {leaf.shape} {at}, and the first one has "
            f"{like.shape}. All batches must have the same: drop a smaller last one "
            "(drop_last=True of a DataLoader, drop_remainder=True of Grain's batch), "
            "or pad it.",
        )
        require(
            leaf.dtype == like.dtype,
            f"{where} has the dtype {leaf.dtype} {at}, and the first one has "
            f"{like.dtype}. All batches must have the same.",
        )
