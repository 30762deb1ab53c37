"""Rounding: rules that store their leaves in narrower dtypes than they compute in."""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

from adaptax._core.leaves import narrowed


def of_what_is_stored(rule: Callable[..., Any], dtypes: dict[int, Any]) -> Any:
    """Return the rule with each new leaf rounded as soon as it is computed.

    The update is then computed from the rounded leaves, as they are stored. If it
    needed the unrounded ones, XLA:CPU would compute them again from copies of the old
    leaves (measured: 2 times the time of a step).

    Args:
        rule: See `by_coordinate`.
        dtypes: The dtypes to store leaves in, by their positions among the results.
    """

    def rounding(*leaves, **scalars):
        closed = jax.make_jaxpr(rule)(*leaves, **scalars)
        program, given = closed.jaxpr, jax.tree.leaves((leaves, scalars))
        dtypes_of = {
            program.outvars[place]: dtype
            for place, dtype in dtypes.items()
            if not isinstance(program.outvars[place], Literal)
        }
        stored: dict[Any, jax.Array] = {}
        values = dict(zip(program.constvars, closed.consts, strict=True))
        values |= dict(zip(program.invars, given, strict=True))

        def value(atom):
            return atom.val if isinstance(atom, Literal) else values[atom]

        for step in program.eqns:
            options = step.primitive.get_bind_params(step.params)
            results = step.primitive.bind(*map(value, step.invars), **options)
            if not step.primitive.multiple_results:
                results = [results]
            for name, result in zip(step.outvars, results, strict=True):
                values[name] = result
                if name in dtypes_of:
                    stored[name] = narrowed(result, dtypes_of[name])
                    values[name] = stored[name].astype(result.dtype)
        return [
            value(atom) if isinstance(atom, Literal) else stored.get(atom, value(atom))
            for atom in program.outvars
        ]

    return rounding
