"""Reject increase: undo a step that raised the loss, and continue at a lower rate.

    f > f₋ + (κ − 1) |f₋|, or f not finite or absurd:
        w ← w₋,   state ← state₋,   scale ← scale · d
    otherwise:
        scale ← scale · i where f < f₋
        scale ← scale · d^(−1/10)   for ten steps after a cut by such an f
        f₋, w₋, state₋ ← average(f), w, state,   w ← w + scale · u

f is the loss at w. f₋ is the loss at w₋, where the last step started; with a `decay`,
the exponential average of the losses where steps started. When a step is undone, f₋
stays; the next loss, measured again at w₋, then enters it. The test uses |f₋|, so that
it also suits negative losses.

A loss that is not finite, or absurd beside earlier ones, may come from a step that went
too far or from a bad batch. The step is undone in both cases, but the cut is reversed
over the next ten steps.

Source: Vogl et al. (1988), "Accelerating the convergence of the back-propagation
method", Biol. Cybern. 59; Battiti (1989), "Accelerated backpropagation learning: two
optimization methods", Complex Systems 3. The defaults κ = 1.04 and d = 0.5 are
MATLAB's `traingdx` (1.04) and Battiti's. Here the inner state is undone as well.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import average_weight, divide
from adaptax._core.extra_args import read_metric
from adaptax._core.guards import guarded
from adaptax._core.leaves import chosen, is_trained
from adaptax._core.methods import Method
from adaptax._core.metrics import UNSEEN
from adaptax._core.plausibility import Usual, judged, usual
from adaptax._core.scalars import real
from adaptax._core.scaling import scale_updates
from adaptax._core.words import translating


class RejectIncreaseState(NamedTuple):
    """The state of `reject_increase`.

    `learning_rate` is the scale of the inner updates, initially 1. `owed` is the
    product of the cuts still to reverse, 1 for none. `value` is f₋ (float32's largest
    number before the first). `returning` is true from an undone step to the next one
    taken. `accepted` counts the steps taken and `rejected` those undone; `skipped`
    counts the other calls: with an unusable loss and nothing to undo, or when the
    return took another call. `saved_params` is w₋, and `saved_inner_state` is state₋,
    empty with `restart`. `usual` determines which losses are absurd.
    """

    learning_rate: jax.Array
    owed: jax.Array
    value: jax.Array
    returning: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    skipped: jax.Array
    saved_params: optax.Params
    saved_inner_state: optax.OptState
    inner_state: optax.OptState
    usual: Usual


@translating
def reject_increase(
    inner: optax.GradientTransformation,
    tolerance: Scalar = 1.04,
    decrease: Scalar = 0.5,
    increase: Scalar = 1.0,
    min_scale: Scalar = 1e-8,
    max_scale: Scalar = 1e6,
    decay: Scalar = 0.0,
    *,
    restart: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """Restore the parameters and the inner state when a step raised the loss.

    The losses of single batches fluctuate: for them, use a `decay` of 0.9 and a
    `tolerance` of 2, which distinguishes a bad step from a hard batch.

    It needs the loss `value` at the current parameters, and stores one copy of the
    parameters and of the inner state. A call that undoes a step does not take another;
    the next call does, from the saved parameters.

    An update can only be added, and w + (w₋ − w) may differ from w₋ by rounding. After
    a step that went very far, the return takes another call, and the remaining
    difference is added to the next update (see `adaptax._core.snapshots`). An element
    whose step would not be finite does not move, since no update leads back from
    infinity.

    Args:
        inner: The optimizer to wrap.
        tolerance: κ >= 1: a loss up to κ times the last does not count as an increase.
        decrease: d, the factor of the scale when a step is undone, 0 < d < 1.
        increase: i >= 1, the factor of the scale when a step lowered the loss.
        min_scale: The smallest scale, in [0, 1].
        max_scale: The largest scale, >= 1.
        decay: The factor of the average f₋, in [0, 1); with 0, f₋ is the last loss.
        restart: Continue from an undone step with a new inner state, except for its
            rates. This removes the momentum, which would lead uphill again, and stores
            no copy of the inner state. Structural.

    Raises:
        TypeError: At `update`, if `value` is missing.
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> careful = reject_increase(adaptax.gradient_descent(3.0))
    >>> w, state, path = jnp.asarray(1.0), careful.init(1.0), []
    >>> for _ in range(5):
    ...     updates, state = careful.update(w, state, w, value=w**2 / 2)
    ...     w = w + updates
    ...     path.append(float(w))
    >>> path
    [-2.0, 1.0, -0.5, 0.25, -0.125]
    """
    checks.number("tolerance", tolerance, at_least=1)
    checks.number("decrease", decrease, above=0, below=1)
    checks.number("increase", increase, at_least=1)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.number("max_scale", max_scale, at_least=1)
    checks.averaging_factor("decay", decay)
    scaling = _Scaling(decrease, increase, min_scale, max_scale)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return RejectIncreaseState(
            learning_rate=real(1.0),
            owed=real(1.0),
            value=real(UNSEEN),
            returning=jnp.zeros((), bool),
            accepted=counters.zero(),
            rejected=counters.zero(),
            skipped=counters.zero(),
            saved_params=snapshots.empty(params),
            saved_inner_state=() if restart else inner.init(params),
            inner_state=inner.init(params),
            usual=usual(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "reject_increase", more=", value=...")
        value = jnp.asarray(read_metric(extra_args, "value"))
        (plausible, anew), known = judged(state.usual, value)
        first, value = state.accepted == 0, jnp.where(plausible, value, 0)
        state = state._replace(value=jnp.where(anew & ~first, value, state.value))
        tried = ~first & ~state.returning
        rejected = tried & ~(plausible & ~_rose(value, state.value, tolerance))
        arrived = snapshots.is_reached(params, state.saved_params) | ~state.returning
        accepted = plausible & ~rejected & arrived

        saved_params = snapshots.take(
            accepted & ~state.returning, params, state.saved_params
        )
        back = snapshots.updates_to(saved_params, params, updates)
        back = snapshots.zeros_unless(~first, back)
        stepped, inner_state = inner.update(
            snapshots.zeros_unless(accepted, updates),
            state.inner_state,
            params,
            **extra_args,
        )
        fell = tried & accepted & (value < state.value)
        rate = scaling.changed(state.learning_rate, rejected, fell)
        rate, owed = scaling.settled(state, rate, rejected & ~plausible, accepted)
        stepped = scale_updates(stepped, rate)
        rest = snapshots.zeros_unless(state.returning, back)
        stepped = _staying_finite(snapshots.added(stepped, rest), params)
        if restart:
            saved_inner_state = ()
            fresh = inner.init(snapshots.at(params, saved_params))
            undone = snapshots.restarted(state.inner_state, fresh)
        else:
            undone = saved_inner_state = snapshots.replaced(
                accepted, state.inner_state, state.saved_inner_state
            )
        state = state._replace(
            learning_rate=rate,
            owed=owed,
            value=jnp.where(accepted, _averaged(state, value, decay), state.value),
            returning=rejected | (state.returning & ~accepted),
            accepted=counters.increment(state.accepted, where=accepted),
            rejected=counters.increment(state.rejected, where=rejected),
            skipped=counters.increment(state.skipped, where=~accepted & ~rejected),
            saved_params=saved_params,
            saved_inner_state=saved_inner_state,
            inner_state=chosen(accepted, inner_state, undone),
            usual=known,
        )
        return chosen(accepted, stepped, back), state

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


class _Scaling(NamedTuple):
    """How the scale changes: its factors and its bounds."""

    decrease: Scalar
    increase: Scalar
    smallest: Scalar
    largest: Scalar

    def changed(self, rate, rejected, fell):
        """Return the scale after a step that was undone, or that lowered the loss."""
        raised = jnp.minimum(rate * real(self.increase), real(self.largest))
        lowered = jnp.maximum(rate * real(self.decrease), real(self.smallest))
        return jnp.where(rejected, lowered, jnp.where(fell, raised, rate))

    def settled(self, state, rate, reversible, accepted):
        """Record a cut that is to be reversed, or reverse a part of it."""
        owed = jnp.where(
            reversible, state.owed * divide(rate, state.learning_rate), state.owed
        )
        part = jnp.maximum(owed, real(self.decrease) ** 0.1)
        back = accepted & (owed < 1)
        higher = jnp.minimum(rate / part, real(self.largest))
        return jnp.where(back, higher, rate), jnp.where(back, owed / part, owed)


def _rose(value: jax.Array, before: jax.Array, tolerance: Scalar) -> jax.Array:
    """Return whether f > f₋ + (κ − 1) |f₋|."""
    return value > before + (real(tolerance) - 1) * jnp.abs(before)


def _averaged(state: RejectIncreaseState, value: jax.Array, decay: Scalar) -> jax.Array:
    """Return f₋ with the loss of an accepted step averaged in."""
    weight = average_weight(decay, state.accepted + 1).astype(jnp.float32)
    return (1 - weight) * state.value + weight * value


def _staying_finite(updates: optax.Updates, params: optax.Params) -> optax.Updates:
    """Return the updates, with 0 where the parameters would not stay finite."""

    def leaf(param, update):
        if not (is_trained(param) and is_trained(update)):
            return update
        param = jnp.asarray(param)
        return jnp.where(jnp.isfinite(param + update.astype(param.dtype)), update, 0)

    return jax.tree.map(leaf, params, updates)


METHOD = Method(
    {
        "learning_rate": 0.1,
        "tolerance": 1.005,
        "decrease": 0.5,
        "increase": 1.25,
        "min_scale": 0.125,
        "max_scale": 4.0,
        "decay": 0.25,
    },
    source="Vogl et al. (1988)",
    variants=({"restart": True},),
    needs=frozenset({"params", "value"}),
    differs="Optax has no rejection of steps.",
)
