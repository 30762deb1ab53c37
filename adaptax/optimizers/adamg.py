"""AdamG: Adam with the step size that AdaGrad-norm approaches.

    v ← β₂ v + (1 − β₂) g²,         v̂ = v / (1 − β₂ᵗ)
    r ← β₃ r + (1 − β₃) s(v),       s(v) = p v^q
    m ← β₁ m + (1 − β₁) r g,        m̂ = m / (1 − β₁ᵗ)
    γ = min(α, 1 / √t)
    x ← x − γ m̂ / (√v̂ + ε)

The "golden step size" s replaces the numerator of AdaGrad-norm in each coordinate. Its
average r is not bias-corrected. The state keeps m̂ and v̂ themselves (see
`average_weight`).

Source: Pang, Yu, Hoang & Zhou (2024), "Towards Stability of Parameter-free
Optimization" (arXiv 2405.04376); t counts from 1. The authors fitted p and q, which are
not meant to be tuned.
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
    power,
    root,
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import precise, real
from adaptax._core.words import translating


class AdamgState(NamedTuple):
    """The state of `adamg`.

    `step` counts the updates. `rate` is the state of α, and `learning_rate` is γ/α of
    the last step, at most 1 and initially 1. `mean` is m̂, `mean_sq` v̂ and `numerator`
    r: shaped like the parameters, in the accumulator's dtype.
    """

    step: jax.Array
    learning_rate: jax.Array
    mean: optax.Updates
    mean_sq: optax.Updates
    numerator: optax.Updates
    rate: Any


@translating
def adamg(
    learning_rate: LearningRate = 1.0,
    b1: Scalar = 0.95,
    b2: Scalar = 0.999,
    b3: Scalar = 0.95,
    eps: Scalar = 1e-8,
    p: Scalar = 0.2,
    q: Scalar = 0.24,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam that infers its rate from the size of the gradients, in each coordinate.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes: the largest rate,
            without a unit. Where it exceeds 1/√t, 1/√t applies.
        b1: β₁, the averaging factor of the scaled gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        b3: β₃, the averaging factor of the golden step size, 0 <= β₃ < 1.
        eps: ε >= 0, added to the divisor. Where the divisor is 0, so is the step.
        p: > 0, the factor of s.
        q: > 0, the exponent of s.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.

    >>> import jax.numpy as jnp
    >>> optimizer = adamg(b2=0.0, b3=0.0, p=0.5, q=0.5)
    >>> updates, state = optimizer.update(jnp.asarray(4.0), optimizer.init(1.0))
    >>> float(updates)
    -2.0
    """
    checks.averaging_factor("b1", b1)
    checks.number("b2", b2, at_least=0, below=1)
    checks.number("b3", b3, at_least=0, below=1)
    checks.number("eps", eps, at_least=0)
    checks.number("p", p, above=0)
    checks.number("q", q, above=0)
    base_rate = seat(learning_rate)

    def rule(g, mean, mean_sq, numerator, w1, w2, w3, bias, p, q, eps, rate):
        mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
        numerator = numerator + w3 * (p * power(bias * mean_sq, q) - numerator)
        mean = mean + w1 * (numerator * g - mean)
        update = -rate * divide(mean, root(mean_sq) + eps)
        return update, mean, mean_sq, numerator

    def init(params):
        def sizes():
            return magnitudes(params, dtype=accumulator_dtype)

        mean = accumulators(params, dtype=accumulator_dtype)
        trees = mean, sizes(), sizes()
        return AdamgState(counters.zero(), real(1.0), *trees, rate=base_rate.init())

    def update(updates, state, params=None, **extra_args):
        del params
        alpha, rate = base_rate.read(state.rate, **extra_args)
        step = counters.increment(state.step)
        w2 = average_weight(b2, step)
        applied = jnp.minimum(alpha, jax.lax.rsqrt(step.astype(jnp.float32)))
        last_w2 = precise(lambda xp, b2: 1 - b2, b2)
        updates, mean, mean_sq, numerator = by_coordinate(
            rule,
            updates,
            state.mean,
            state.mean_sq,
            state.numerator,
            w1=average_weight(b1, step),
            w2=w2,
            w3=precise(lambda xp, b3: 1 - b3, b3),
            bias=divide(last_w2, w2.astype(jnp.float32)),  # 1 − β₂ᵗ
            p=p,
            q=q,
            eps=eps,
            rate=applied,
        )
        factor = jnp.where(alpha > 0, divide(applied, alpha), state.learning_rate)
        return updates, AdamgState(step, factor, mean, mean_sq, numerator, rate)

    return guarded(optax.GradientTransformationExtraArgs(init, update))


METHOD = Method(
    {
        "learning_rate": 0.4,
        "b1": 0.8,
        "b2": 0.99,
        "b3": 0.9,
        "eps": 1e-6,
        "p": 0.2,
        "q": 0.24,
    },
    source="Pang, Yu, Hoang & Zhou (2024)",
    differs="Optax has no AdamG.",
    usual_rate=1.0,
    rate="inferred",
)
