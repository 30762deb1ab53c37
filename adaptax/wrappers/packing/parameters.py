"""Packed parameters: a tree as a few flat buffers, for any optimizer.

    p = pack(w),   loss(unpack(p)),   ∂loss/∂p = [ravel(∂loss/∂w₁), ravel(∂loss/∂w₂), …]

Each leaf costs an optimizer time, in the step and in compilation. `PackedParams` is a
pytree with few leaves, so that any optimizer that treats each coordinate independently,
from adaptax, Optax or elsewhere, runs on a few large arrays.

Source: the concatenation of vectors is linear, and its transpose splits them.
"""

import dataclasses
import functools
from typing import Any

import jax
import optax

from adaptax._core import checks
from adaptax._core.leaves import require_trainable
from adaptax.wrappers.packing.layout import (
    Layout,
    PackedTree,
    fitted,
    gather,
    layout_of,
    scatter,
)


class Arrangement:
    """A layout and the structure of its tree, with a stored hash for jitted calls."""

    def __init__(self, layout: Layout, structure: Any):
        """Store both, and compute their hash."""
        self.layout, self.structure = layout, structure
        self._hash = hash((layout, structure))

    def __hash__(self) -> int:
        """Return the hash of both."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Return whether both are equal."""
        if self is other or not isinstance(other, Arrangement):
            return self is other
        mine, theirs = (self._hash, self.layout), (other._hash, other.layout)
        return mine == theirs and self.structure == other.structure


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["buffers", "apart"],
    meta_fields=["arrangement"],
)
@dataclasses.dataclass(frozen=True)
class PackedParams:
    """A tree as flat buffers by dtype and the leaves that stay apart; see `pack`."""

    buffers: dict[str, Any]
    apart: tuple[Any, ...]
    arrangement: Arrangement


def pack(
    params: optax.Params,
    *,
    like: PackedParams | None = None,
    largest: int = 256 * 1024,
) -> PackedParams:
    """Pack the small leaves of a tree into one flat buffer for each dtype.

    Args:
        params: The parameters, or with `like` gradients. Of shapes and dtypes, shapes
            and dtypes are packed.
        like: The packed parameters, whose layout is used for gradients, since their
            shardings are not known inside jit.
        largest: The size in bytes of the largest leaf to pack; packing leaves of four
            times the default size is slower (measured on CPU). Leaves that are not
            floating point, or are sharded, stay apart too. Shardings are not known
            inside jit, so pack parameters outside.

    Raises:
        ValueError: If `like` has another structure or other shapes, or if a leaf cannot
            be trained.

    >>> import adaptax
    >>> import jax
    >>> packed = pack({"w": jax.numpy.ones((2, 3)), "b": jax.numpy.zeros(3)})
    >>> packed.buffers["float32"].shape
    (9,)
    >>> def loss(packed):
    ...     params = unpack(packed)
    ...     return (params["w"].sum() - params["b"]).sum()
    >>> tx = adaptax.adam(0.1)
    >>> gradients = jax.grad(loss)(packed)
    >>> updates, state = tx.update(gradients, tx.init(packed), packed)
    >>> jax.tree.map(jax.numpy.shape, unpack(updates))
    {'b': (3,), 'w': (2, 3)}
    """
    if like is None:
        require_trainable(params)
        leaves, structure = jax.tree.flatten(params)
        checks.length("largest", largest, at_least=0)
        arrangement = Arrangement(layout_of(params, largest), structure)
    else:
        arrangement = like.arrangement
        leaves = fitted(arrangement.layout, params, "like=")
    packed = gather(arrangement.layout, leaves)
    return PackedParams(packed.buffers, packed.apart, arrangement)


def unpack(packed: PackedParams) -> Any:
    """Return the tree that was packed: parameters, gradients, updates or averages.

    Its derivative is `pack`: a gradient with respect to `packed` is one concatenation.
    """
    tree = PackedTree(packed.buffers, packed.apart)
    leaves = scatter(packed.arrangement.layout, tree)
    return jax.tree.unflatten(packed.arrangement.structure, leaves)
