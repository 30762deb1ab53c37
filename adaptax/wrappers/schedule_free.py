"""Schedule-free learning: averaging in the place of a schedule that must know the end.

    y_t = (1 − β) z_t + β x_t                 where the gradient is taken
    z_{t+1} = z_t + γ_t u_t                   u: the inner optimizer's update at y_t
    x_{t+1} = x_t + c_t (z_{t+1} − x_t)       where the model is evaluated
    c_t = w_t / Σ_{s≤t} w_s,   w_t = tʳ (max_{s≤t} γ_s)ᵖ,   t = 1, 2, …

The parameters that are trained are y; `eval_params` gives x, at any time. β stands for
momentum, so the inner optimizer needs none: Adam without it divides by √v̂ alone. The
rate is to stay constant after a warm-up; the weights follow it.

Source: Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024), "The Road Less
Scheduled", NeurIPS (arXiv 2405.15682), Alg. 1; RAdam: Liu et al. (2020), "On the
Variance of the Adaptive Learning Rate and Beyond", ICLR. The authors' package and
`optax.contrib.schedule_free` keep z alone and solve for x; here x is kept as well, so
that parameters in half precision do not lose it, and β = 0 is allowed.
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
from adaptax._core.rates import LearningRate, Seat, as_rate, as_schedule, negate, seat
from adaptax._core.rectification import rectification
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating


class ScheduleFreeState(NamedTuple):
    """The state of `schedule_free`.

    `step` counts the updates, from 0; `max_rate` is the largest γ so far, and
    `weight_sum` is Σw / w_t at the last step. `fast` is z and `average` is x, shaped
    like the parameters, float32 for half precision.
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


@translating
def schedule_free(
    inner: optax.GradientTransformation,
    learning_rate: LearningRate | None = None,
    b1: Scalar = 0.9,
    weight_power: Scalar = 2.0,
    *,
    step_power: Scalar = 0.0,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Average the points of an optimizer, and take gradients near the average.

    The `learning_rate` multiplies the updates of `inner`, which therefore has a rate of
    1: `schedule_free(optax.sgd(1.0), 0.1)`. In `optax.contrib.schedule_free` it only
    weighs the average, and stands in `inner` as well.

    An element of an inner update that is not finite counts as 0.

    Args:
        inner: The optimizer, best without momentum. Its own rate, if it has one,
            multiplies γ, and the weights know nothing of it: warm up by
            `learning_rate`.
        learning_rate: γ, anything that `adaptax.descend` takes; `None` for 1.
            Whether it is `None` is structural.
        b1: β in [0, 1], how near the average the gradients are taken.
        weight_power: p >= 0. The larger, the less the steps of a warm-up count.
        step_power: r >= 0. The larger, the more the last steps count.
        accumulator_dtype: Of z and x; by default the parameters' own, float32 for half
            precision.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    rate = _ONE if learning_rate is None else seat(learning_rate)
    powers = (weight_power, step_power)
    return _schedule_free(inner, rate, b1, *powers, accumulator_dtype=accumulator_dtype)


_ONE = Seat(
    optax.EmptyState, lambda state, **extra_args: (jnp.ones((), jnp.float32), state)
)


def _schedule_free(
    inner, rate, b1, weight_power, step_power, *, accumulator_dtype
) -> optax.GradientTransformationExtraArgs:
    """Make `schedule_free` of a seat; see there."""
    checks.number("b1", b1, at_least=0, at_most=1)
    checks.number("weight_power", weight_power, at_least=0)
    checks.number("step_power", step_power, at_least=0)
    inner = optax.with_extra_args_support(inner)

    def rule(u, fast, average, y, rate, c, b1):
        fast = fast + rate * u
        average = average + c * (fast - average)
        return average + (1 - b1) * (fast - average) - y, fast, average

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
        params = checks.given_params(params, "schedule_free")
        stepped, inner_state = inner.update(
            updates, state.inner_state, params, **extra_args
        )
        gamma, rate_state = rate.read(state.rate_state, **extra_args)
        step, max_rate = (
            counters.increment(state.step),
            jnp.maximum(gamma, state.max_rate),
        )
        weight_sum = 1 + _shrunken(state, step, max_rate)
        first = state.step == 0
        updates, fast, average = by_coordinate(
            rule,
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

    def _shrunken(state, step, max_rate):
        """Return the sum so far as a multiple of the new weight, at any scale."""
        real = jnp.result_type(float)
        step, before, rate, old_rate, total = (
            x.astype(real)
            for x in (step, state.step, max_rate, state.max_rate, state.weight_sum)
        )
        r, p = (jnp.asarray(power).astype(real) for power in (step_power, weight_power))
        ratio = jnp.where(rate > 0, divide(old_rate, rate), 1)
        return total * ratio**p * (before / step) ** r

    return guarded(optax.GradientTransformationExtraArgs(init, update))


@translating
def schedule_free_sgd(
    learning_rate: LearningRate,
    *,
    b1: Scalar = 0.9,
    weight_decay: WeightDecay = 0.0,
    weight_power: Scalar = 2.0,
    step_power: Scalar = 0.0,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent, schedule-free; see `schedule_free`.

    Args:
        learning_rate: γ, anything that `adaptax.descend` takes, in the parameters'
            unit; larger than with a schedule.
        b1: β in [0, 1], how near the average the gradients are taken.
        weight_decay: λ >= 0, or a function of the step: u = −(g + λ y).
        weight_power: p >= 0. The larger, the less the steps of a warm-up count.
        step_power: r >= 0. The larger, the more the last steps count.
        mask: Which leaves decay: booleans like the parameters, or a function of them.
        accumulator_dtype: Of z and x; by default the parameters' own, float32 for half
            precision.
    """
    return _schedule_free(
        _downhill(optax.identity(), weight_decay, mask),
        seat(learning_rate, needs_unit=True),
        b1,
        weight_power,
        step_power,
        accumulator_dtype=accumulator_dtype,
    )


@translating
def schedule_free_adamw(
    learning_rate: LearningRate,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: WeightDecay = 0.0,
    weight_power: Scalar = 2.0,
    step_power: Scalar = 0.0,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW, schedule-free; see `schedule_free`.

    Args:
        learning_rate: γ, anything that `adaptax.descend` takes. The authors take
            0.0025 for AdamW.
        b1: β in [0, 1], how near the average the gradients are taken.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        eps: ε >= 0, added outside the root. Where the whole divisor is 0, so is the
            update.
        weight_decay: λ >= 0, or a function of the step: u = −(g / (√v̂ + ε) + λ y).
        weight_power: p >= 0. The larger, the less the steps of a warm-up count.
        step_power: r >= 0. The larger, the more the last steps count.
        mask: Which leaves decay: booleans like the parameters, or a function of them.
        accumulator_dtype: Of z, x and v̂; by default the parameters' own, float32 for
            half precision.
    """
    return _schedule_free(
        _downhill(
            _scale_by_mean_square(b2, eps, accumulator_dtype), weight_decay, mask
        ),
        seat(learning_rate, needs_unit=True),
        b1,
        weight_power,
        step_power,
        accumulator_dtype=accumulator_dtype,
    )


@translating
def schedule_free_radam(
    learning_rate: LearningRate,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: WeightDecay = 0.0,
    weight_power: Scalar = 2.0,
    step_power: Scalar = 0.0,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """RAdam, schedule-free: `schedule_free_adamw` that warms up by itself.

        γ_t = η √[(ρ_t − 4)(ρ_t − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ_t)]   where ρ_t > 4,
        γ_t = 0   otherwise,   ρ∞ = 2/(1 − β₂) − 1,   ρ_t = ρ∞ − 2t β₂ᵗ/(1 − β₂ᵗ)

    Args:
        learning_rate: η, anything that `adaptax.descend` takes.
        b1: β in [0, 1], how near the average the gradients are taken.
        b2: β₂, 0 <= β₂ < 1. Up to 3/5, ρ_t never exceeds 4, and nothing moves.
        eps: ε >= 0, added outside the root.
        weight_decay: λ >= 0, or a function of the step: u = −(g / (√v̂ + ε) + λ y).
        weight_power: p >= 0. The larger, the less the steps of a warm-up count.
        step_power: r >= 0. The larger, the more the last steps count.
        mask: Which leaves decay: booleans like the parameters, or a function of them.
        accumulator_dtype: Of z, x and v̂; by default the parameters' own, float32 for
            half precision.
    """
    checks.averaging_factor("b2", b2)
    rectified = optax.chain(
        as_rate(learning_rate, needs_unit=True), as_schedule(_rectified(b2))
    )
    return schedule_free_adamw(
        rectified,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        weight_power=weight_power,
        step_power=step_power,
        mask=mask,
        accumulator_dtype=accumulator_dtype,
    )


def _rectified(b2: Scalar):
    def rectify(step):
        length, factor = rectification(b2, step + 1)
        return jnp.where(length > 4, factor, 0)

    return rectify


class _MeanSquareState(NamedTuple):
    """`mean_sq` is v̂, in the accumulator's dtype; `step` counts the updates."""

    step: jax.Array
    mean_sq: optax.Updates


def _downhill(direction, weight_decay, mask):
    """Turn a direction around, with the weights decaying."""
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), optax.stateless(negate)
    )


def _scale_by_mean_square(b2, eps, accumulator_dtype):
    """Adam's direction without its momentum."""
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
