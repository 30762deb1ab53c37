"""Adamax: an averaged gradient, divided by the largest gradient of late.

    m ← β₁ m + (1 − β₁) g,      m̂ = m / (1 − β₁ᵗ)
    u ← max(β₂ u, |g| + ε)
    w ← w − α m̂ / u

It is Adam with the norm p = ∞ in the place of p = 2: u needs no correction of its bias.
The state keeps m̂ itself, see `average_weight`.

Source: Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", ICLR, section
7.1, Alg. 2, where there is no ε. It is inside the maximum as in Optax and PyTorch;
Keras adds it to u.
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
    without_bias,
)
from adaptax._core.guards import guarded
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


class AdamaxState(NamedTuple):
    """`mean` is m̂ and `largest` u: like the parameters, in the accumulator's dtype.

    `step` counts the updates, from 0.
    """

    step: jax.Array
    mean: optax.Updates
    largest: optax.Updates


@translating
def scale_by_adamax(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide the averaged gradient by the largest gradient of late.

    Args:
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, by which the largest one decays at each step, 0 <= β₂ < 1.
        eps: ε >= 0, added to the size of each gradient. Where the divisor is 0, so is
            the update.
        accumulator_dtype: Of m and u; by default the parameters' own, float32 for half
            precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)

    def rule(g, mean, largest, w1, b2, eps):
        mean = mean + w1 * (g - mean)
        largest = jnp.maximum(b2 * largest, jnp.abs(g) + eps)
        return divide(mean, largest), mean, largest

    def init(params):
        return AdamaxState(
            step=counters.zero(),
            mean=accumulators(params, dtype=accumulator_dtype),
            largest=magnitudes(params, dtype=accumulator_dtype),
        )

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        updates, mean, largest = by_coordinate(
            rule,
            updates,
            state.mean,
            state.largest,
            w1=average_weight(b1, step),
            b2=b2,
            eps=eps,
        )
        return updates, AdamaxState(step, mean, largest)

    def converted(theirs):
        mean = without_bias(theirs.mu, b1, theirs.count)
        return AdamaxState(theirs.count, mean, theirs.nu)

    conversions = {"ScaleByAdamState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def adamax(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adamax, ready to use; see `scale_by_adamax` for the other arguments.

    The defaults are those of Optax and PyTorch; Keras has eps=1e-7, added to u.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adamax(b1, b2, eps, accumulator_dtype=accumulator_dtype)
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 1e-2},
    source="Kingma & Ba (2015)",
    usual_rate=0.002,
)
