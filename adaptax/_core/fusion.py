"""Fusion: keep XLA from computing one result in many loops.

XLA fuses a cheap operation into every loop that reads its result. That is right for a
product. It is wrong for a sum of hundreds of scalars that hundreds of loops read:
compile time grows with the square of their number (measured on CPU, for Prodigy's sums
over 400 leaves: more than 100 s, against 7 s with `apart`). XLA:CPU removes
`optimization_barrier` before it fuses, but does not fuse into a conditional whose
predicate it does not know.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compute `function(*arguments)` without fusing it into the loops that read it."""

    def hidden(*arguments):
        truth = jax.lax.optimization_barrier(jnp.asarray(True))
        return jax.lax.cond(truth, function, function, *arguments)

    return jax.lax.platform_dependent(*arguments, cpu=hidden, default=function)


@jax.jit
def once(tree: Any, after: jax.Array | None = None) -> Any:
    """Compute a tree once, before and independently of the loops that read it.

    XLA:CPU compiles two cases badly without it:

    * Updates whose norm is taken; then `after` is a scalar computed from the
      parameters. XLA would compute the updates twice, for the norm and for the new
      parameters, and copy the parameters, since one loop overwrites what the other
      reads.
    * A direction computed from the old state; then `tree` contains both. XLA would copy
      the state before overwriting it.
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
