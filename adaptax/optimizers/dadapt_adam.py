"""D-Adaptation for Adam: a rate that follows a lower bound on the distance.

    γ = α d c,   c = √(1 − β₂ᵗ) / (1 − β₁ᵗ) with bias correction, else 1
    r ← √β₂ r + (1 − √β₂) γ ⟨g, s / (√v + ε)⟩      (s and v of the previous step)
    s ← √β₂ s + (1 − √β₂) γ g
    m ← β₁ m + (1 − β₁) γ g
    v ← β₂ v + (1 − β₂) g²
    x ← x − m / (√v + ε) − γ λ x
    d̂ = r / ((1 − √β₂) ‖s‖₁),   d ← max(d, min(d̂, G d))

d starts below the distance from x₀ to the solution, measured in the largest coordinate,
and grows towards it; it never shrinks. The rate is part of m, so a change of α or d
takes effect as slowly as m changes.

Source: Defazio & Mishchenko (2023), "Learning-Rate-Free Learning by D-Adaptation", ICML
(arXiv 2301.07733), as in the third version of the authors' code, dadaptation 3.2.
`optax.contrib.dadapt_adamw` always corrects the bias; the authors' code does if asked
to, as here. A zero first gradient in Optax, and one NaN in both, stops all training.

The first step that counts is the first whose gradient is not 0. As in the authors'
code, a step with α = 0 does not count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    by_coordinate,
    divide,
    magnitudes,
    root,
)
from adaptax._core.global_guard import (
    adam_correction,
    has_begun,
    is_usable,
    preconditioned,
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq, inner_product
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import precise, real
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating
from adaptax.optimizers.d_adaptation import next_bound, require_distance, sum_weight


class DAdaptAdamState(NamedTuple):
    """The state of `dadapt_adam`.

    `step` counts the steps taken and `skipped` the gradients that were not finite.
    `learning_rate` is d c of the last step, and `rate` the state of its factor α.
    `distance` is d of the next step, `numerator` r and `denominator` ‖s‖₁. `sums` is s,
    `mean` m and `mean_sq` v, shaped like the parameters.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array
    sums: optax.Updates
    mean: optax.Updates
    mean_sq: optax.Updates
    rate: Any


@translating
def dadapt_adam(
    learning_rate: LearningRate = 1.0,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    d0: Scalar = 1e-6,
    weight_decay: WeightDecay = 0.0,
    growth: Scalar | None = None,
    mask: Mask = None,
    bias_correction: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam at a rate that it infers; needs `params`.

    By default the averages are not bias-corrected, as in the authors' code.
    `optax.contrib.dadapt_adamw` always corrects them, as `bias_correction=True` does.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, without a unit: 1, or a
            schedule whose peak is 1.
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of its square, 0 <= β₂ < 1.
        eps: ε >= 0, added to the divisor. Where the divisor is 0, so is the step.
        d0: d₀ > 0, the initial d, in the parameters' unit. It should be far below the
            true distance.
        weight_decay: λ >= 0, decoupled, per unit of γ, or a function of the step.
        growth: G >= 1, the largest factor by which d grows in a step, such as 1.02,
            which acts as a warm-up; `None` for no cap. Whether it is `None` is
            structural.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        bias_correction: Whether to correct the bias of m and v. Structural.
        accumulator_dtype: The dtype of s, m and v; by default that of the parameters,
            or float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted.
    Nothing moves before the first gradient that is not 0.
    """
    checks.number("b1", b1, at_least=0, below=1)
    checks.number("b2", b2, at_least=0, below=1)
    checks.number("eps", eps, at_least=0)
    require_distance(d0, growth)
    decays, base_rate = decaying(weight_decay, mask), seat(learning_rate)

    def correction(step):
        return adam_correction(b1, b2, step) if bias_correction else real(1.0)

    def init(params):
        def zeros():
            return accumulators(params, dtype=accumulator_dtype)

        return DAdaptAdamState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=real(d0) * correction(jnp.ones((), jnp.int32)),
            distance=real(d0),
            numerator=real(0.0),
            denominator=real(0.0),
            sums=zeros(),
            mean=zeros(),
            mean_sq=magnitudes(params, dtype=accumulator_dtype),
            rate=base_rate.init(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "dadapt_adam")
        alpha, rate = base_rate.read(state.rate, **extra_args)
        usable, step = is_usable(updates), counters.increment(state.step)
        counts = usable & (alpha > 0) & has_begun(updates, state.denominator)
        factor = state.distance * correction(step)
        new_updates, sums, mean, mean_sq = by_coordinate(
            _move,
            updates,
            state.sums,
            state.mean,
            state.mean_sq,
            reads=(params, decays.mask(params)),
            where=counts,
            sum_weight=sum_weight(b2),
            w1=precise(lambda xp, b1: 1 - b1, b1),
            w2=precise(lambda xp, b2: 1 - b2, b2),
            rate=factor * alpha,
            eps=eps,
            decay=decays.at(state.step),
        )
        rescaled = preconditioned(state.sums, state.mean_sq, eps)
        gained = factor * alpha * inner_product(updates, rescaled)
        bound = next_bound(state, counts, factor, gained, sums, sum_weight(b2), growth)
        return new_updates, DAdaptAdamState(
            step=counters.increment(state.step, where=counts),
            skipped=counters.increment(state.skipped, where=~usable),
            learning_rate=bound.learning_rate,
            distance=bound.distance,
            numerator=bound.numerator,
            denominator=bound.denominator,
            sums=sums,
            mean=mean,
            mean_sq=mean_sq,
            rate=rate,
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _move(g, sums, mean, mean_sq, w, mask, sum_weight, w1, w2, rate, eps, decay):
    sums = sums + sum_weight * (rate * g - sums)
    mean = mean + w1 * (rate * g - mean)
    mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
    update = -divide(mean, root(mean_sq) + eps) - rate * decay * mask * w
    return update, sums, mean, mean_sq


METHOD = Method(
    {
        "learning_rate": 0.8,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "d0": 0.01,
        "weight_decay": 0.02,
        "bias_correction": True,
    },
    source="Defazio & Mishchenko (2023)",
    variants=({"bias_correction": False, "growth": 1.02},),
    needs=frozenset({"params"}),
    usual_rate=1.0,
    rate="inferred",
)
