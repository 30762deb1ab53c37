"""AdaBelief: an averaged gradient, divided by its root mean square error.

    m ← β₁ m + (1 − β₁) g,                    m̂ = m / (1 − β₁ᵗ)
    s ← β₂ s + (1 − β₂) (g − m)² + ε₀,        ŝ = s / (1 − β₂ᵗ)
    w ← w − α m̂ / (√ŝ + ε)

Steps are long where gradients are close to their average, and short where they are not.
The state keeps m̂ and ŝ (see `average_weight`). The error is g − m and not g − m̂, as
published: at the first step m̂ = g, and the divisor would be 0.

Source: Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris & Duncan (2020), "AdaBelief
Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", NeurIPS, Alg. 2,
with its ε inside s called ε₀, as in Optax. ε₀ is added at every step, and so comes to
ε₀ / (1 − β₂).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    magnitudes,
    root,
    without_bias,
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


class AdabeliefState(NamedTuple):
    """`mean` is m̂ and `mean_sq_error` ŝ, the mean square of g − m.

    Both are shaped like the parameters, in the accumulator's dtype; `step` counts the
    updates, from 0.
    """

    step: jax.Array
    mean: optax.Updates
    mean_sq_error: optax.Updates


@translating
def scale_by_adabelief(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide the averaged gradient by the root mean square of its errors.

    Args:
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of the squared error, 0 <= β₂ < 1.
        eps: ε >= 0, added outside the root.
        eps_root: ε₀ >= 0, added to s at every step. It bounds the step where gradients
            do not vary. Where the divisor is 0, so is the update.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)

    def rule(g, mean, mean_sq_error, w1, w2, bias, floor, eps):
        mean = mean + w1 * (g - mean)
        error = g - bias * mean
        mean_sq_error = mean_sq_error + w2 * (abs_sq(error) - mean_sq_error) + floor
        return divide(mean, root(mean_sq_error) + eps), mean, mean_sq_error

    def init(params):
        mean = accumulators(params, dtype=accumulator_dtype)
        mean_sq_error = magnitudes(params, dtype=accumulator_dtype)
        return AdabeliefState(counters.zero(), mean, mean_sq_error)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        bias, sq_bias = _bias(b1, step), _bias(b2, step)
        updates, mean, mean_sq_error = by_coordinate(
            rule,
            updates,
            state.mean,
            state.mean_sq_error,
            w1=average_weight(b1, step),
            w2=average_weight(b2, step),
            bias=bias,
            floor=divide(jnp.asarray(eps_root).astype(sq_bias.dtype), sq_bias),
            eps=eps,
        )
        return updates, AdabeliefState(step, mean, mean_sq_error)

    def converted(theirs):
        mean = without_bias(theirs.mu, b1, theirs.count)
        mean_sq = without_bias(theirs.nu, b2, theirs.count)
        return AdabeliefState(theirs.count, mean, mean_sq)

    conversions = {"ScaleByBeliefState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def adabelief(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaBelief, ready to use; see `scale_by_adabelief` for the other arguments.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adabelief(
        b1, b2, eps, eps_root, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(direction, descend(learning_rate))


def _bias(factor: Scalar, step: jax.Array) -> jax.Array:
    """Return 1 − bᵗ, the factor by which an average that starts at 0 is too small."""
    real = jnp.result_type(float)
    return 1 - jnp.asarray(factor).astype(real) ** step.astype(real)


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
    source="Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris & Duncan (2020)",
    usual_rate=0.002,
)
