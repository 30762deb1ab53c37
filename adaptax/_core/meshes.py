"""Meshes with explicit axes, where the type of an array contains its sharding.

On them JAX refuses operations whose result could be sharded in several ways, such as a
matrix product over a sharded axis. On a mesh with axes of type `Auto` the compiler
decides. `by_compiler` lets it decide within a part of the program, and declares only
the sharding of the result.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def spec_of(array: Any) -> PartitionSpec | None:
    """Return an array's sharding over explicit axes; `None` where there are none."""
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
    """Compute `function(array, *others)` with shardings that the compiler chooses.

    Args:
        function: A function of arrays. It should not close over any.
        array: The array that is sharded over the mesh.
        others: Further arguments.
        out: `out(spec)` returns the sharding of the result from that of `array`; by
            default the same.
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
