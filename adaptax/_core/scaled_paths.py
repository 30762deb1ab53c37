"""Scaled paths: an optimizer's summed steps, scaled as a whole.

    Δ_{t+1} = Δ_t + u_t
    w_{t+1} = w_0 + S_{t+1} Δ_{t+1}

u are the updates of an inner optimizer. A tuner learns S >= 0 from ⟨g_t, Δ_t⟩: where
that is below 0, the path leads downhill, and S grows.

A step with a value that is not finite is counted but not taken: the inner state, the
path and the tuner stay as they were.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.coordinates import accumulators
from adaptax._core.guards import guarded
from adaptax._core.leaves import (
    chosen,
    computing_dtype,
    dtype_of,
    global_norm,
    is_placeholder,
    is_trained,
    times,
)


class ScaledPathState(NamedTuple):
    """The state of a wrapper that scales a path.

    `step` counts the steps, from 0, and `skipped` those that were not finite. `start`
    is w_0, a copy of the parameters in their own dtypes. `path` is Δ, shaped like the
    parameters, in float32 for half precision. `tuner` has the field `learning_rate`,
    which is S.
    """

    step: jax.Array
    skipped: jax.Array
    start: optax.Params
    path: optax.Updates
    tuner: Any
    inner_state: optax.OptState


def scale_path(
    inner: optax.GradientTransformation,
    tuner: Callable[[], Any],
    tune: Callable[[Any, Any, Any, Any, Any], Any],
    name: str,
) -> optax.GradientTransformationExtraArgs:
    """Scale the path of an optimizer.

    Args:
        inner: The optimizer.
        tuner: `tuner()` returns the tuner's initial state.
        tune: `tune(tuner, step, gradients, path, params)` returns its next state; the
            path is the one before the step.
        name: The wrapper's name, for messages.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return ScaledPathState(
            step=counters.zero(),
            skipped=counters.zero(),
            start=snapshots.empty(params),
            path=accumulators(params),
            tuner=tuner(),
            inner_state=inner.init(params),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, name)
        stepped, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        tuned = tune(state.tuner, state.step, updates, state.path, params)
        start = snapshots.take(state.step == 0, params, state.start)
        state = state._replace(start=start)
        after = ScaledPathState(
            step=counters.increment(state.step),
            skipped=state.skipped,
            start=start,
            path=_longer(state.path, stepped),
            tuner=tuned,
            inner_state=inner_state,
        )
        usable = jnp.isfinite(tuned.learning_rate * global_norm(after.path))
        for leaf in jax.tree.leaves(tuned):
            usable &= jnp.isfinite(leaf).all()
        skipped = counters.increment(state.skipped, where=~usable)
        after = chosen(usable, after, state)._replace(skipped=skipped)
        goal = _along(after.start, after.path, tuned.learning_rate)
        moves = snapshots.updates_to(goal, params, updates)
        return snapshots.zeros_unless(usable, moves), after

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _longer(path, updates):
    def leaf(total, update):
        if not (is_trained(total) and is_trained(update)):
            return total
        return total + jnp.asarray(update).astype(dtype_of(total))

    return jax.tree.map(leaf, path, updates, is_leaf=is_placeholder)


def _along(start, path, scale):
    """Return start + scale · path, in float32 at least."""

    def leaf(origin, total):
        if not (is_trained(origin) and is_trained(total)):
            return origin
        wide = computing_dtype(dtype_of(origin), dtype_of(total))
        origin = jnp.asarray(origin).astype(wide)
        return origin + times(jnp.asarray(total).astype(wide), scale)

    return jax.tree.map(leaf, start, path, is_leaf=is_placeholder)
