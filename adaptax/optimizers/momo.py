"""MoMo: momentum with the step at which a model of the loss reaches its bound.

    d ← d + ω (g − d),   f ← f + ω (ℓ − f),   k ← k + ω (⟨g, x⟩ − k)
    τ = min(α, [(1 + α λ) (f − f* − k) + ⟨d, x⟩]₊ / ‖d‖²)
    x ← (x − τ d) / (1 + α λ)

ℓ is the loss of the batch. ω = 1 − β, but 1 at the first step; with bias correction
ω = (1 − β) / (1 − βᵗ). The averages form a linear model of the loss, and the step τ d
leads to the point where it equals the bound f*, but no further than α d.

Source: Schaipp, Ohana, Eickenberg, Defazio & Gower (2024), "MoMo: Momentum Models for
Adaptive Learning Rates", ICML (arXiv 2305.07583), with both kinds of averages in the
authors' code, momo-opt 0.1.0. It keeps the biased averages and divides them by
ρ = 1 − βᵗ where they are used; the steps are the same. `optax.contrib.momo` does not
divide τ d by 1 + α λ, and one NaN loss stops all training.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, truncated_model
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, average_weight, by_coordinate
from adaptax._core.global_guard import is_usable
from adaptax._core.guards import guarded
from adaptax._core.leaves import inner_product
from adaptax._core.methods import Method
from adaptax._core.plausibility import judged
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import real
from adaptax._core.truncated_model import Split, TruncatedModel
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating


class MomoState(NamedTuple):
    """The state of `momo`: `model` contains its scalars, and `mean` is d."""

    model: TruncatedModel
    mean: optax.Updates


@translating
def momo(
    learning_rate: LearningRate = 1.0,
    b: Scalar = 0.9,
    lower_bound: Scalar = 0.0,
    weight_decay: WeightDecay = 0.0,
    *,
    mask: Mask = None,
    bias_correction: bool = False,
    use_fstar: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum whose rate follows the loss; needs `params`, and the loss as `value`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes: the largest rate, in
            the parameters' unit.
        b: β, the averaging factor, 0 <= β < 1.
        lower_bound: f*, a lower bound of the loss, 0 for most losses; with `use_fstar`,
            f₀, the smallest bound to estimate.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        bias_correction: Whether the averages are bias-corrected, rather than started at
            the first values. Structural.
        use_fstar: Whether to estimate the bound during training, see
            `adaptax._core.truncated_model`. Structural.
        accumulator_dtype: The dtype of d; by default that of the parameters, or float32
            for half precision.

    Raises:
        TypeError: At `update`, if `value` is missing.
        ValueError: At `update`, if `params` is missing.

    Where the model is at its bound or below, τ is 0. Where d is 0, nothing moves and
    the weights do not decay. A step is skipped and counted if the loss or the gradient
    is not finite, if the loss is absurd beside earlier ones, or if the gradient's norm
    is 1e15 or more.

    >>> optimizer = momo()
    >>> updates, state = optimizer.update(2.0, optimizer.init(3.0), 3.0, value=1.0)
    >>> float(updates)
    -0.5
    """
    checks.number("b", b, at_least=0, below=1)
    checks.number("lower_bound", lower_bound)
    decays, base_rate = decaying(weight_decay, mask), seat(learning_rate)

    def newest_weight(step):
        if bias_correction:
            return average_weight(b, step)
        constant = 1 - jnp.asarray(b).astype(jnp.result_type(float))
        return jnp.where(step == 1, 1, constant)

    def init(params):
        mean = accumulators(params, dtype=accumulator_dtype)
        return MomoState(truncated_model.initial(lower_bound, base_rate.init()), mean)

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "momo")
        value = truncated_model.read_loss(extra_args)
        alpha, rate = base_rate.read(state.model.rate, **extra_args)
        verdict, new_usual = judged(state.model.usual, value)
        usable = is_usable(updates) & verdict.plausible
        weight = newest_weight(counters.increment(state.model.step))
        _, mean = by_coordinate(
            _average, updates, state.mean, where=usable, weight=weight
        )
        model = state.model._replace(rate=rate, usual=new_usual)
        after = truncated_model.averaged(
            model, weight, value, inner_product(updates, params), verdict.anew
        )
        norm_sq = inner_product(mean, mean)
        decaying_mean = decays.part(mean, params)
        decayed = alpha * real(decays.at(state.model.step))
        step_size, after = truncated_model.truncated(
            after,
            Split(inner_product(mean, params), inner_product(decaying_mean, params)),
            Split(norm_sq, inner_product(decaying_mean, mean)),
            alpha,
            decayed,
            real(lower_bound),
            use_fstar,
        )
        (updates,) = by_coordinate(
            _move,
            updates,
            reads=(mean, params, decays.mask(params)),
            where=usable & (norm_sq > 0),
            step_size=jnp.where(usable, step_size, 0),
            decayed=decayed,
        )
        return updates, MomoState(truncated_model.counted(usable, after, model), mean)

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _average(g, mean, weight):
    return g, mean + weight * (g - mean)


def _move(g, mean, w, mask, step_size, decayed):
    del g
    decayed *= mask
    return (-(step_size * mean + decayed * w) / (1 + decayed),)


METHOD = Method(
    {"learning_rate": 0.2, "b": 0.3, "lower_bound": -1.0, "weight_decay": 0.0},
    source="Schaipp, Ohana, Eickenberg, Defazio & Gower (2024)",
    # The gap to an estimated bound is a small difference of float32 scalars, so
    # `use_fstar` is compared with the authors' traces instead.
    variants=({"bias_correction": True, "weight_decay": 0.05},),
    needs=frozenset({"params", "value"}),
    usual_rate=1.0,
    rate="inferred",
)
