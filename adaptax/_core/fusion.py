"""Fusion: keeping XLA from computing one thing in many loops.

XLA fuses what is cheap into every loop that reads it. That is right for a product and
wrong for a sum of hundreds of scalars which hundreds of loops read: compiling grows
with the square of their number (measured on CPU: more than 100 s for Prodigy's sums
over 400 leaves, and 7 s apart). XLA:CPU removes `optimization_barrier` before it fuses,
but does not look into a conditional whose predicate it does not know.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compute `function(*arguments)` apart from all that reads the result."""

    def hidden(*arguments):
        truth = jax.lax.optimization_barrier(jnp.asarray(True))
        return jax.lax.cond(truth, function, function, *arguments)

    return jax.lax.platform_dependent(*arguments, cpu=hidden, default=function)


@jax.jit
def once(tree: Any, after: jax.Array | None = None) -> Any:
    """Compute a tree once, however many loops read it, and before what follows from it.

    It serves two cases, which XLA:CPU compiles badly by itself:

    * Updates whose norm is taken, with `after` a scalar computed from the parameters.
      The updates would be computed twice, for the norm and for the new parameters, and
      the parameters would be copied, since one loop overwrites what the other reads.
    * A direction that is computed from the old state, given together with that state.
      The state would be copied before it is overwritten.
    """

    def hidden(tree, after):
        never = jax.lax.optimization_barrier(jnp.asarray(False))
        if after is not None:
            never &= after < 0
        return jax.lax.cond(
            never,
            lambda tree: jax.tree.map(jnp.zeros_like, tree),
            lambda tree: tree,
            tree,
        )

    return jax.lax.platform_dependent(
        tree, after, cpu=hidden, default=lambda tree, _: tree
    )
