"""Adan: Nesterov momentum with a separate average of the gradient's changes.

    d = g − g′,                    with the previous gradient g′; d = 0 at first
    m ← β₁ m + (1 − β₁) g,                      m̂ = m / (1 − β₁ᵗ)
    y ← β₂ y + (1 − β₂) d,                      ŷ = y / (1 − β₂ᵗ)
    v ← β₃ v + (1 − β₃) (g + β₂ d)²,            v̂ = v / (1 − β₃ᵗ)
    w ← w − α ((m̂ + β₂ ŷ) / (√(v̂ + ε₀) + ε) + λ w)

Source: Xie, Zhou, Li, Lin & Yan (2024), "Adan: Adaptive Nesterov Momentum Algorithm for
Faster Optimizing Deep Models", IEEE TPAMI, Alg. 1, with the bias-corrected averages of
the authors' code. The paper's β are 1 minus these, and it divides the weights by 1 + λα
instead of decoupled decay. Optax 0.2.8 weights the change by 1 − β₂, not by β₂.
"""

from typing import Any, NamedTuple

import jax
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
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating


class AdanState(NamedTuple):
    """`mean` is m̂, `mean_change` ŷ, `mean_sq` v̂ and `gradient` g′.

    All are shaped like the parameters, in the accumulator's dtype; `step` counts the
    updates, from 0.
    """

    step: jax.Array
    mean: optax.Updates
    mean_change: optax.Updates
    mean_sq: optax.Updates
    gradient: optax.Updates


@translating
def scale_by_adan(
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Add the gradient's averaged change to its average, and divide by the size.

    A gradient that is not finite counts as 0, also in the next change.

    Args:
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor and the weight of its change, 0 <= β₂ < 1.
        b3: β₃, the averaging factor of the square, 0 <= β₃ < 1.
        eps: ε >= 0, added outside the root.
        eps_root: ε₀ >= 0, added inside the root. Where the divisor is 0, so is the
            update.
        accumulator_dtype: The dtype of the averages and of g′; by default that of the
            parameters, or float32 for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.averaging_factor("b3", b3)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)

    def rule(g, mean, mean_change, mean_sq, before, **scalars):
        w1, w2, w3, b2 = (scalars[name] for name in ("w1", "w2", "w3", "b2"))
        change = scalars["later"] * (g - before)
        mean = mean + w1 * (g - mean)
        mean_change = mean_change + w2 * (change - mean_change)
        mean_sq = mean_sq + w3 * (abs_sq(g + b2 * change) - mean_sq)
        divisor = root(mean_sq + scalars["eps_root"]) + scalars["eps"]
        direction = divide(mean + b2 * mean_change, divisor)
        return direction, mean, mean_change, mean_sq, g

    def init(params):
        def zeros():
            return accumulators(params, dtype=accumulator_dtype)

        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        return AdanState(counters.zero(), zeros(), zeros(), mean_sq, zeros())

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        updates, *trees = by_coordinate(
            rule,
            updates,
            *state[1:],
            w1=average_weight(b1, step),
            w2=average_weight(b2, step),
            w3=average_weight(b3, step),
            b2=b2,
            later=state.step > 0,
            eps=eps,
            eps_root=eps_root,
        )
        return updates, AdanState(step, *trees)

    return guarded(optax.GradientTransformation(init, update))


@translating
def adan(
    learning_rate: LearningRate,
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    mask: Mask = None,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adan with decoupled weight decay; see `scale_by_adan` for the other arguments.

    The change of the gradient has the weight b2, as in the paper. `optax.adan` weights
    it by 1 − b2, and has eps_root=1e-8.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
            Needs `params` at every update.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
    """
    direction = scale_by_adan(
        b1, b2, b3, eps, eps_root, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), descend(learning_rate)
    )


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b1": 0.9,
        "b2": 0.8,
        "b3": 0.95,
        "eps": 1e-6,
        "eps_root": 1e-7,
        "weight_decay": 0.01,
    },
    source="Xie, Zhou, Li, Lin & Yan (2024)",
    needs=frozenset({"params"}),
    differs="optax.adan weighs the change of the gradient by 1 − b2, not b2.",
    usual_rate=0.002,
)
