"""Paths: an optimizer's steps, summed up, and scaled as a whole.

    Δ_{t+1} = Δ_t + u_t
    w_{t+1} = w_0 + S_{t+1} Δ_{t+1}

u are the updates of an inner optimizer, and S >= 0 is what a tuner learns from how
⟨g_t, Δ_t⟩ comes out: below 0, the path leads downhill, and more of it is better.

A step of which a number is not finite is not taken: the inner state, the path and the
tuner stay as they were, and it is counted.
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
    computing_dtype,
    dtype_of,
    global_norm,
    is_placeholder,
    is_trained,
    times,
)


class ScaledPathState(NamedTuple):
    """The state of a wrapper that scales a path.

    `step` counts the steps, from 0, and `skipped` those that were not finite; `start`
    is w_0, a copy of the parameters in their own dtypes, and `path` is Δ, shaped like
    them, float32 for half precision. `tuner` has the field `learning_rate`, which is S.
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
        tuner: `tuner()` gives the tuner's first state.
        tune: `tune(tuner, step, gradients, path, params)` gives the next one; the path
            is that before the step.
        name: Of the wrapper, for messages.
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
        params = checks.given_params(params, name)
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
        after = snapshots.chosen(usable, after, state)._replace(skipped=skipped)
        goal = _along(after.start, after.path, tuned.learning_rate)
        back = snapshots.way_back(updates, params, goal)
        return snapshots.zeros_unless(usable, back), after

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _longer(path, updates):
    def leaf(way, update):
        if not (is_trained(way) and is_trained(update)):
            return way
        return way + jnp.asarray(update).astype(dtype_of(way))

    return jax.tree.map(leaf, path, updates, is_leaf=is_placeholder)


def _along(start, path, scale):
    """Return start + scale · path, in float32 at least."""

    def leaf(origin, way):
        if not (is_trained(origin) and is_trained(way)):
            return origin
        wide = computing_dtype(dtype_of(origin), dtype_of(way))
        origin, way = jnp.asarray(origin).astype(wide), jnp.asarray(way).astype(wide)
        return origin + times(way, scale)

    return jax.tree.map(leaf, start, path, is_leaf=is_placeholder)
