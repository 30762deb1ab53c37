"""Meshes with explicit axes, where the type of an array says how it is spread.

JAX then refuses what has no one answer, such as a matrix product over an axis that is
spread over devices, or a reshape across one. On a mesh with axes of the kind `Auto` the
compiler decides, and here it does so for a part of the program, of which no more than
the outcome has a sharding by type.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def spec_of(array: Any) -> PartitionSpec | None:
    """Return how an array is spread over explicit axes; `None` where there are none."""
    sharding = getattr(jax.typeof(array), "sharding", None)
    if not isinstance(sharding, NamedSharding) or not sharding.mesh.explicit_axes:
        return None
    return sharding.spec


def by_compiler(
    function: Callable[..., Any],
    array: Any,
    *others: Any,
    out: Callable[[PartitionSpec], Any] = lambda spec: spec,
) -> Any:
    """Compute `function(array, *others)`, spread inside as the compiler chooses.

    Args:
        function: A function of arrays. It should not close over any.
        array: The array that is spread over the mesh.
        others: Further arguments.
        out: `out(spec)` is how what the function gives is spread, by how the array is:
            by default likewise.
    """
    spec = spec_of(array)
    if spec is None:
        return function(array, *others)
    mesh = jax.typeof(array).sharding.mesh
    shardings = jax.tree.map(
        lambda spec: NamedSharding(mesh, spec),
        out(spec),
        is_leaf=lambda node: isinstance(node, PartitionSpec),
    )
    automatic = jax.sharding.auto_axes(
        function, axes=mesh.explicit_axes, out_sharding=shardings
    )
    return automatic(array, *others)
