"""Schedule-free averaging, shared by the wrapper and the optimizers of that name.

    y_t = (1 − β) z_t + β x_t                 where the gradient is taken
    z_{t+1} = z_t + γ_t u_t                   u: the inner optimizer's update at y_t
    x_{t+1} = x_t + c_t (z_{t+1} − x_t)       where the model is evaluated

See `adaptax.wrappers.schedule_free` for the weights c_t and the source.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    magnitudes,
    root,
)
from adaptax._core.eval_params import averaged
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.rates import Seat
from adaptax._core.scaling import negate
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay


class ScheduleFreeState(NamedTuple):
    """The state of `schedule_free`.

    `step` counts the updates, from 0. `max_rate` is the largest γ so far, and
    `weight_sum` is Σw / w_t at the last step. `fast` is z and `average` x, shaped like
    the parameters, in float32 for half precision.
    """

    step: jax.Array
    max_rate: jax.Array
    weight_sum: jax.Array
    fast: optax.Params
    average: optax.Params
    rate_state: Any
    inner_state: optax.OptState

    def evaluated(self, params: optax.Params) -> Any:
        """Return x, for `eval_params`."""
        return averaged(self.average, params, self.step)


def schedule_free_at(
    inner: optax.GradientTransformation,
    rate: Seat,
    b1: Scalar,
    weight_power: Scalar,
    step_power: Scalar,
    *,
    accumulator_dtype: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make a schedule-free optimizer; see `adaptax.schedule_free`."""
    checks.number("b1", b1, at_least=0, at_most=1)
    checks.number("weight_power", weight_power, at_least=0)
    checks.number("step_power", step_power, at_least=0)
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return ScheduleFreeState(
            step=counters.zero(),
            max_rate=jnp.zeros((), jnp.float32),
            weight_sum=jnp.zeros((), jnp.float32),
            fast=accumulators(params, dtype=accumulator_dtype),
            average=accumulators(params, dtype=accumulator_dtype),
            rate_state=rate.init(),
            inner_state=inner.init(params),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "schedule_free")
        stepped, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        gamma, rate_state = rate.read(state.rate_state, **extra_args)
        step = counters.increment(state.step)
        max_rate = jnp.maximum(gamma, state.max_rate)
        earlier = _rescaled_sum(state, step, max_rate, step_power, weight_power)
        weight_sum = 1 + earlier
        first = state.step == 0
        updates, fast, average = by_coordinate(
            _move,
            stepped,
            snapshots.take(first, params, state.fast),
            snapshots.take(first, params, state.average),
            reads=(params,),
            rate=gamma,
            c=1 / weight_sum,
            b1=b1,
        )
        return updates, ScheduleFreeState(
            step=step,
            max_rate=max_rate,
            weight_sum=weight_sum.astype(jnp.float32),
            fast=fast,
            average=average,
            rate_state=rate_state,
            inner_state=inner_state,
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update))


def _move(u, fast, average, y, rate, c, b1):
    fast = fast + rate * u
    average = average + c * (fast - average)
    return average + (1 - b1) * (fast - average) - y, fast, average


def _rescaled_sum(
    state: ScheduleFreeState,
    step: jax.Array,
    max_rate: jax.Array,
    step_power: Scalar,
    weight_power: Scalar,
) -> jax.Array:
    """Return the previous Σw divided by the new weight, without overflow."""
    real = jnp.result_type(float)
    step, before, rate, old_rate, total = (
        x.astype(real)
        for x in (step, state.step, max_rate, state.max_rate, state.weight_sum)
    )
    r, p = (jnp.asarray(power).astype(real) for power in (step_power, weight_power))
    ratio = jnp.where(rate > 0, divide(old_rate, rate), 1)
    return total * ratio**p * (before / step) ** r


def downhill(
    direction: optax.GradientTransformation, weight_decay: WeightDecay, mask: Mask
) -> optax.GradientTransformationExtraArgs:
    """Add weight decay to a direction, and negate it."""
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), optax.stateless(negate)
    )


class _MeanSquareState(NamedTuple):
    """`mean_sq` is v̂, in the accumulator's dtype; `step` counts the updates."""

    step: jax.Array
    mean_sq: optax.Updates


def scale_by_mean_square(
    b2: Scalar, eps: Scalar, accumulator_dtype: Any
) -> optax.GradientTransformation:
    """Divide the gradient by its root mean square: Adam's direction with β₁ = 0."""
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)

    def rule(g, mean_sq, w2, eps):
        mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
        return divide(g, root(mean_sq) + eps), mean_sq

    def init(params):
        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        return _MeanSquareState(counters.zero(), mean_sq)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        w2 = average_weight(b2, step)
        updates, mean_sq = by_coordinate(rule, updates, state.mean_sq, w2=w2, eps=eps)
        return updates, _MeanSquareState(step, mean_sq)

    return guarded(optax.GradientTransformation(init, update))
