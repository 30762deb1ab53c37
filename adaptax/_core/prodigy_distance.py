"""Prodigy's distance around an optimizer, for the wrapper and for `self_tuning`.

    x ← x + d u(d g)               u: the updates of the inner optimizer

See `adaptax._core.prodigy_estimate` for d.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.global_guard import has_begun, is_usable
from adaptax._core.guards import guarded
from adaptax._core.kept_rates import KeptRate, as_array, kept_rates
from adaptax._core.leaves import (
    chosen,
    dtype_of,
    is_placeholder,
    is_trained,
    narrowed,
    times,
    trained_leaves,
    widened,
    with_trained,
)
from adaptax._core.prodigy_estimate import Estimator, estimate_in
from adaptax._core.scalars import either, real


class ProdigyDistanceState(NamedTuple):
    """The state of `prodigy_distance`.

    `step` counts the steps taken and `skipped` the gradients that were not finite.
    `learning_rate` is d of the last step, and `distance` that of the next. `numerator`
    is r and `denominator` ‖s‖₁. `sums` is s and `origin` x₀, shaped like the
    parameters, or sliced; x₀ has their own dtypes.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array
    sums: optax.Updates
    origin: optax.Params
    inner_state: optax.OptState

    def has_unit(self) -> bool:
        """Return False: it scales the inner optimizer's rate."""
        return False


def with_distance(
    inner: optax.GradientTransformation, distance: Estimator
) -> optax.GradientTransformationExtraArgs:
    """Put an estimate around an optimizer; see `adaptax.prodigy_distance`."""
    inner = optax.with_extra_args_support(inner)

    def init(params):
        estimate = distance.init(params)
        return ProdigyDistanceState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=jnp.copy(estimate.distance),
            inner_state=inner.init(params),
            **estimate._asdict(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "prodigy_distance")
        usable = is_usable(updates)

        def skip():
            skipped = counters.increment(state.skipped, where=~usable)
            zeros = [jnp.zeros_like(leaf) for leaf in trained_leaves(updates)]
            return zeros, state._replace(skipped=skipped)

        def step():
            scaled = _scaled(updates, state.distance)
            stepped, inner_state = inner.update(
                scaled, state.inner_state, params, **extra_args
            )
            alpha = _rate_in(inner_state)
            counts, estimate = distance.advance(
                estimate_in(state),
                updates,
                params,
                step=state.step,
                rate=state.distance * alpha,
                where=alpha > 0,
            )
            moves = [
                jnp.where(counts, narrowed(move, dtype_of(leaf)), 0)
                for move, leaf in zip(
                    trained_leaves(_scaled(stepped, state.distance)),
                    trained_leaves(updates),
                    strict=True,
                )
            ]
            return moves, ProdigyDistanceState(
                step=counters.increment(state.step, where=counts),
                skipped=counters.increment(state.skipped, where=~counts & (alpha > 0)),
                learning_rate=jnp.where(counts, state.distance, state.learning_rate),
                inner_state=chosen(True, inner_state, state.inner_state),
                **estimate._asdict(),
            )

        # An elementwise choice would copy the inner state; see `spike_guard`.
        begun = usable & has_begun(updates, state.denominator)
        leaves, state = either(begun, step, skip, over=(updates, state, params))
        return with_trained(updates, leaves), state

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _rate_in(inner_state: Any) -> jax.Array:
    """Return the rate that an optimizer applied; 1 where it has none or several."""
    rates = kept_rates(inner_state)
    return as_array(rates.product) if isinstance(rates, KeptRate) else real(1.0)


def _scaled(tree: Any, scalar: jax.Array) -> Any:
    """Multiply the trained leaves of a tree, in float32 at least."""

    def leaf(array):
        return times(widened(array), scalar) if is_trained(array) else array

    return jax.tree.map(leaf, tree, is_leaf=is_placeholder)
