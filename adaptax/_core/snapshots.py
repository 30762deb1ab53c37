"""Snapshots: copies of the parameters and of a state, to return to or measure from.

    u = s − w,   w + u = s

A transformation can only add to the parameters w. In floating point, w + (s − w) is
exactly the saved s where s/2 <= w <= 2s, and wherever the difference is representable;
elsewhere it is off by a rounding of the larger of the two. Measured on normal numbers,
in float32 and in bfloat16: after steps of a tenth of their size 98 % are restored bit
by bit and the rest to 1/8 ε; after steps of their own size, 77 % and the rest to ε.
After a step that went very far (w = 1e10 from s = 1) the error is large. So a wrapper
checks `is_reached`, and returns again until it holds. The remaining error, a rounding
of s itself, is corrected in the next update: the snapshot itself is exact.

Source: Sterbenz (1974), "Floating-Point Computation", Prentice-Hall, §4.3.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adaptax._core import varying
from adaptax._core.following import ControllerState
from adaptax._core.leaves import (
    by_parts,
    computing_dtype,
    dtype_of,
    is_placeholder,
    is_trained,
    require_trainable,
)


def empty(params: optax.Params) -> Any:
    """Return zeros with the shapes and dtypes of the trained leaves, for a copy."""
    require_trainable(params)

    def leaf(param):
        if not is_trained(param):
            return optax.MaskedNode()
        return jnp.full_like(param, 0, dtype_of(param))

    return jax.tree.map(leaf, params)


def taken(params: optax.Params, saved: Any) -> Any:
    """Return the parameters in the dtypes of older copies."""

    def leaf(param, copy):
        if not is_trained(param):
            return copy
        return jnp.asarray(param).astype(dtype_of(copy))

    return jax.tree.map(leaf, params, saved)


@jax.jit
def replaced(where: jax.Array, new: Any, old: Any) -> Any:
    """Return the new copies if the condition holds, otherwise the old ones untouched.

    Later computations should read the result, not the old copies: otherwise XLA copies
    them, or the parameters, once more, since it does not see that they are read before
    they are overwritten (measured on CPU: 3 times the time of a step).
    """
    return varying.cond(where, lambda new, old: new, lambda new, old: old, new, old)


def take(where: jax.Array, params: optax.Params, saved: Any) -> Any:
    """Save the parameters if the condition holds; see `replaced`."""
    return replaced(where, taken(params, saved), saved)


@partial(jax.jit, static_argnames=("at_first", "later"))
def measured(
    first: jax.Array,
    params: optax.Params,
    saved: Any,
    *others: Any,
    at_first: Callable[..., Any],
    later: Callable[..., Any],
) -> tuple[Any, Any]:
    """Save the parameters at the first step, and measure the distance from them later.

    A later step reads the copies once, and writes none.

    Args:
        first: Whether this is the first step.
        params: The parameters.
        saved: The copies, with arbitrary values before the first step.
        others: Further arguments of both functions.
        at_first: `at_first(params, *others)` returns the measurements at the first
            step. It should be defined at the top of a module: outside jit, a new
            function at each call is compiled at each call.
        later: `later(params - copies, *others)` returns those at the later steps.

    Returns:
        The copies, and the measurements.
    """

    def save(params, saved, *others):
        return taken(params, saved), at_first(params, *others)

    def measure(params, saved, *others):
        return saved, later(difference(params, saved), *others)

    return varying.cond(first, save, measure, params, saved, *others)


def at(params: optax.Params, saved: Any) -> optax.Params:
    """Return the parameters with their trained leaves replaced by the saved ones."""
    return jax.tree.map(
        lambda param, copy: copy if is_trained(param) else param, params, saved
    )


def difference(params: optax.Params, saved: Any) -> optax.Updates:
    """Return the parameters minus the saved ones, in float32 at least."""

    def leaf(param, copy):
        if not (is_trained(param) and is_trained(copy)):
            return optax.MaskedNode()
        wide = computing_dtype(dtype_of(param))
        return jnp.asarray(param).astype(wide) - jnp.asarray(copy).astype(wide)

    return jax.tree.map(leaf, params, saved, is_leaf=is_placeholder)


def landing(params: optax.Params, updates: optax.Updates) -> optax.Params:
    """Return the parameters plus the updates, in float32 at least."""

    def leaf(param, update):
        if not (is_trained(param) and is_trained(update)):
            return param
        wide = computing_dtype(dtype_of(param), dtype_of(update))
        return jnp.asarray(param).astype(wide) + jnp.asarray(update).astype(wide)

    return jax.tree.map(leaf, params, updates)


def updates_to(goal: Any, params: optax.Params, like: optax.Updates) -> optax.Updates:
    """Return the updates that lead to other parameters, finite and in given dtypes.

    Args:
        goal: The parameters to reach.
        params: The present parameters.
        like: Updates whose dtypes to use.
    """

    def leaf(param, copy, update):
        if not (is_trained(param) and is_trained(update)):
            return update
        dtype = dtype_of(update)
        wide = computing_dtype(dtype_of(param), dtype)
        difference = jnp.asarray(copy).astype(wide) - jnp.asarray(param).astype(wide)
        limit = float(jnp.finfo(dtype).max)
        return by_parts(
            lambda part: jnp.clip(jnp.nan_to_num(part), -limit, limit), difference
        ).astype(dtype)

    return jax.tree.map(leaf, params, goal, like)


def is_reached(params: optax.Params, saved: Any) -> jax.Array:
    """Return whether the parameters equal the saved ones up to rounding."""

    def leaf(param, copy):
        if not is_trained(param):
            return jnp.ones((), bool)
        dtype = dtype_of(param)
        copy, param = (
            jnp.asarray(x).astype(computing_dtype(dtype)) for x in (copy, param)
        )
        size = jnp.max(jnp.abs(copy), initial=0)
        distance = jnp.max(jnp.abs(copy - param), initial=0)
        return distance <= 4 * float(jnp.finfo(dtype).eps) * size

    return jnp.stack(
        [jnp.ones((), bool), *jax.tree.leaves(jax.tree.map(leaf, params, saved))]
    ).all()


def zeros_unless(condition: jax.Array, updates: optax.Updates) -> optax.Updates:
    """Return the updates, with all trained leaves 0 unless the condition holds."""
    return jax.tree.map(
        lambda leaf: jnp.where(condition, leaf, 0) if is_trained(leaf) else leaf,
        updates,
    )


def added(updates: optax.Updates, others: optax.Updates) -> optax.Updates:
    """Add the trained leaves of two trees of updates, in the dtypes of the first."""
    return jax.tree.map(
        lambda one, other: (
            one + jnp.asarray(other).astype(dtype_of(one)) if is_trained(one) else one
        ),
        updates,
        others,
    )


def restarted(state: Any, fresh: Any) -> Any:
    """Return the fresh inner state, with the parts that contain a rate kept."""

    def holds_rate(node):
        fields = set(getattr(node, "_fields", ()))
        controller = isinstance(node, ControllerState)
        return controller or bool({"learning_rate", "hyperparams"} & fields)

    def visit(node, new):
        if not holds_rate(node):
            return new
        if hasattr(node, "inner_state"):
            inner_state = restarted(node.inner_state, new.inner_state)
            return node._replace(inner_state=inner_state)
        return node

    return jax.tree.map(visit, state, fresh, is_leaf=holds_rate)
