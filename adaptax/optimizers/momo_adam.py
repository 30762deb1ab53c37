"""MoMo-Adam: Adam with the step at which a model of the loss reaches its bound.

    m̂, v̂ as in Adam,   D = √v̂ + ε;   f and k average ℓ and ⟨g, x⟩ as m̂ averages g
    τ = min(α, [(1 + α λ) (f − f* − k) + ⟨m̂, x⟩]₊ / Σ m̂²/D)
    x ← (x − τ m̂ / D) / (1 + α λ)

ℓ is the loss of the batch. The averages form a linear model of the loss, and the step
τ m̂ / D leads to the point where it equals the bound f*, but no further than Adam does.

Source: Schaipp, Ohana, Eickenberg, Defazio & Gower (2024), "MoMo: Momentum Models for
Adaptive Learning Rates", ICML (arXiv 2305.07583). The authors' code, momo-opt 0.1.0,
keeps the biased averages and divides them by ρ = 1 − β₁ᵗ where they are used; the steps
are the same. `optax.contrib.momo_adam` does not divide τ m̂ / D by 1 + α λ, and one NaN
loss stops all training.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, truncated_model
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    magnitudes,
    root,
)
from adaptax._core.global_guard import is_usable, preconditioned
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq, inner_product
from adaptax._core.methods import Method
from adaptax._core.plausibility import judged
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import real
from adaptax._core.truncated_model import Split, TruncatedModel
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating


class MomoAdamState(NamedTuple):
    """`model` contains the scalars, `mean` is m̂ and `mean_sq` v̂."""

    model: TruncatedModel
    mean: optax.Updates
    mean_sq: optax.Updates


@translating
def momo_adam(
    learning_rate: LearningRate = 1e-2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    lower_bound: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    *,
    mask: Mask = None,
    use_fstar: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam whose rate follows the loss; needs `params`, and the loss as `value`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes: the largest rate, in
            the parameters' unit.
        b1: β₁, the averaging factor of gradients and losses, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of squared gradients, 0 <= β₂ < 1.
        eps: ε >= 0, added to the divisor. Where the divisor is 0, so is the step.
        lower_bound: f*, a lower bound of the loss, 0 for most losses; with `use_fstar`,
            f₀, the smallest bound to estimate.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        use_fstar: Whether to estimate the bound during training, see
            `adaptax._core.truncated_model`. Structural.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.

    Raises:
        TypeError: At `update`, if `value` is missing.
        ValueError: At `update`, if `params` is missing.

    Where the model is at its bound or below, τ is 0. Where m̂ is 0, nothing moves and
    the weights do not decay. A step is skipped and counted if the loss or the gradient
    is not finite, if the loss is absurd beside earlier ones, or if the gradient's norm
    is 1e15 or more.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)
    checks.number("lower_bound", lower_bound)
    decays, base_rate = decaying(weight_decay, mask), seat(learning_rate)

    def init(params):
        model = truncated_model.initial(lower_bound, base_rate.init())
        mean = accumulators(params, dtype=accumulator_dtype)
        return MomoAdamState(model, mean, magnitudes(params, dtype=accumulator_dtype))

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "momo_adam")
        value = truncated_model.read_loss(extra_args)
        alpha, rate = base_rate.read(state.model.rate, **extra_args)
        verdict, new_usual = judged(state.model.usual, value)
        usable = is_usable(updates) & verdict.plausible
        step = counters.increment(state.model.step)
        w1 = average_weight(b1, step)
        _, mean, mean_sq = by_coordinate(
            _average,
            updates,
            state.mean,
            state.mean_sq,
            where=usable,
            w1=w1,
            w2=average_weight(b2, step),
        )
        model = state.model._replace(rate=rate, usual=new_usual)
        after = truncated_model.averaged(
            model, w1, value, inner_product(updates, params), verdict.anew
        )
        direction = preconditioned(mean, mean_sq, eps)
        norm_sq = inner_product(mean, direction)
        decaying_mean = decays.part(mean, params)
        decayed = alpha * real(decays.at(state.model.step))
        step_size, after = truncated_model.truncated(
            after,
            Split(inner_product(mean, params), inner_product(decaying_mean, params)),
            Split(norm_sq, inner_product(decaying_mean, direction)),
            alpha,
            decayed,
            real(lower_bound),
            use_fstar,
        )
        (updates,) = by_coordinate(
            _move,
            updates,
            reads=(mean, mean_sq, params, decays.mask(params)),
            where=usable & (norm_sq > 0),
            step_size=jnp.where(usable, step_size, 0),
            eps=eps,
            decayed=decayed,
        )
        model = truncated_model.counted(usable, after, model)
        return updates, MomoAdamState(model, mean, mean_sq)

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _average(g, mean, mean_sq, w1, w2):
    return g, mean + w1 * (g - mean), mean_sq + w2 * (abs_sq(g) - mean_sq)


def _move(g, mean, mean_sq, w, mask, step_size, eps, decayed):
    del g
    decayed *= mask
    direction = divide(mean, root(mean_sq) + eps)
    return (-(step_size * direction + decayed * w) / (1 + decayed),)


METHOD = Method(
    {
        "learning_rate": 0.3,
        "b1": 0.5,
        "b2": 0.99,
        "eps": 1e-6,
        "lower_bound": -1.0,
        "weight_decay": 0.0,
    },
    source="Schaipp, Ohana, Eickenberg, Defazio & Gower (2024)",
    variants=({"weight_decay": 0.05},),
    needs=frozenset({"params", "value"}),
    usual_rate=0.01,
    rate="inferred",
)
