"""Estimates: rates that are inferred from the updates that reach them.

    η_t = estimate(u_0, w_0, …, u_t, w_t),   updates ← η_t · u_t

u are the updates, w the parameters before each step. An update with an element that is
not finite, or whose square overflows, would spoil sums that are never reset. Its step
is counted but not taken, and the estimate stays as it was.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from adaptax._core import checks, counters, snapshots
from adaptax._core.guards import guarded
from adaptax._core.leaves import chosen
from adaptax._core.rates import Rate
from adaptax._core.scaling import scale_updates


def estimate(
    who: str,
    init: Callable[[Any], Any],
    advance: Callable[..., Any],
    scale: Callable[[Any, Any], Any] | None = None,
) -> Rate:
    """Make a rate of a method that infers it.

    Args:
        who: The method's name, for messages.
        init: `init(params)` returns the method's state, which has the fields
            `learning_rate`, the rate applied, and `skipped`, a counter. A field `start`
            holds the initial parameters: it is stored even if the update is not usable,
            since choosing between two copies takes longer than the rest of a step.
        advance: `advance(state, updates, params, **extra_args)` returns the state after
            an update, and whether the measurements are usable.
        scale: `scale(updates, state)` scales the updates; by default, by
            `learning_rate`.
    """

    def start(params):
        return init(params)

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, who)
        after, usable = advance(state, updates, params, **extra_args)
        skipped = counters.increment(state.skipped, where=~usable)
        if hasattr(state, "start"):
            state = state._replace(start=after.start)
        after = chosen(usable, after, state)._replace(skipped=skipped)
        updates = snapshots.zeros_unless(usable, updates)
        if scale is not None:
            return scale(updates, after), after
        return scale_updates(updates, after.learning_rate), after

    return guarded(Rate(start, update), whole=True)


def finite(*scalars: Any) -> Any:
    """Return whether all scalars are finite."""
    return jnp.isfinite(jnp.stack(scalars)).all()
