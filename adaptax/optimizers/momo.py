"""MoMo: momentum with the step that would bring a model of the loss to its bound.

    d ← d + ω (g − d),   f ← f + ω (ℓ − f),   k ← k + ω (⟨g, x⟩ − k)
    τ = min(α, [(1 + α λ) (f − f* − k) + ⟨d, x⟩]₊ / ‖d‖²)
    x ← (x − τ d) / (1 + α λ)

ℓ is the loss of the batch, and ω = 1 − β, but 1 at the first step; with bias correction
ω = (1 − β) / (1 − βᵗ). The averages make a linear model of the loss, and τ d leads to
where it meets the bound f*, but no further than α d.

Source: Schaipp, Ohana, Eickenberg, Defazio & Gower (2024), "MoMo: Momentum Models for
Adaptive Learning Rates", ICML (arXiv 2305.07583), with both averagings of the authors'
code, momo-opt 0.1.0: for the bias correction they keep the biased averages and divide
by ρ = 1 − βᵗ where they are used, which is the same step by step. `optax.contrib.momo`
does not divide τ d by 1 + α λ, and there one NaN of a loss ends all training.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, truncated_model
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, average_weight, by_coordinate
from adaptax._core.guards import guarded
from adaptax._core.leaves import inner_product
from adaptax._core.plausibility import judged
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import real
from adaptax._core.truncated_model import Split, TruncatedModel
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.whole_steps import is_usable
from adaptax._core.words import translating


class MomoState(NamedTuple):
    """The state of `momo`: `model` has its scalars, and `mean` is d."""

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
        lower_bound: f*, a bound below the loss, 0 for most; with `use_fstar` f₀, the
            least that the bound may be.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: Which leaves decay: booleans like the parameters, or a function of them.
        bias_correction: Whether the averages are of all the steps so far, rather than
            started at the first values. Structural.
        use_fstar: Whether to estimate the bound on the way, see
            `adaptax._core.truncated_model`. Structural.
        accumulator_dtype: Of d; by default the parameters' own, float32 for half
            precision.

    Raises:
        TypeError: At `update`, if `value` is missing.
        ValueError: At `update`, if `params` is missing.

    Where the model is at its bound or below, τ is 0. Where d is 0 nothing moves, nor do
    the weights decay. A loss or a gradient that is not finite, a loss that is absurd
    beside those before it, or a gradient of norm 1e15 or more is skipped and counted:
    nothing moves.

    >>> optimizer = momo()
    >>> updates, state = optimizer.update(2.0, optimizer.init(3.0), 3.0, value=1.0)
    >>> float(updates)
    -0.5
    """
    checks.number("b", b, at_least=0, below=1)
    checks.number("lower_bound", lower_bound)
    decays, held = decaying(weight_decay, mask), seat(learning_rate)

    def newest(step):
        if bias_correction:
            return average_weight(b, step)
        later = 1 - jnp.asarray(b).astype(jnp.result_type(float))
        return jnp.where(step == 1, 1, later)

    def average(g, mean, weight):
        return g, mean + weight * (g - mean)

    def move(g, mean, w, mask, step_size, decayed):
        del g
        decayed *= mask
        return (-(step_size * mean + decayed * w) / (1 + decayed),)

    def init(params):
        mean = accumulators(params, dtype=accumulator_dtype)
        return MomoState(truncated_model.initial(lower_bound, held.init()), mean)

    def update(updates, state, params=None, **extra_args):
        params = checks.given_params(params, "momo")
        value = truncated_model.read_loss(extra_args)
        alpha, rate = held.read(state.model.rate, **extra_args)
        verdict, known = judged(state.model.usual, value)
        usable = is_usable(updates) & verdict.plausible
        weight = newest(counters.increment(state.model.step))
        _, mean = by_coordinate(
            average, updates, state.mean, where=usable, weight=weight
        )
        model = state.model._replace(rate=rate, usual=known)
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
            move,
            updates,
            reads=(mean, params, decays.mask(params)),
            where=usable & (norm_sq > 0),
            step_size=jnp.where(usable, step_size, 0),
            decayed=decayed,
        )
        return updates, MomoState(truncated_model.chosen(usable, after, model), mean)

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)
