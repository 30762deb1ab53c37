"""Prodigy: Adam whose rate is an estimate of the distance to the solution.

    γ = α d c,   c = √(1 − β₂ᵗ) / (1 − β₁ᵗ), or 1 without bias correction
    r ← β₃ r + (d/d₀) γ ⟨g, x₀ − x⟩
    s ← β₃ s + (d/d₀) γ g                          (safeguarded: d instead of γ)
    m ← β₁ m + (1 − β₁) d g
    v ← β₂ v + (1 − β₂) d² g²
    d̂ = κ r / ‖s‖₁
    x ← x − γ (m / (√v + d' ε) + λ x),   d' = max(d, min(d̂, G d)), then d ← d'

d grows from d₀ towards the distance from x₀ to the solution, measured in the largest
coordinate, and never shrinks. G caps its growth in a step; by default there is no cap.

With Nesterov momentum, m is replaced in the step by β₁ m + (1 − β₁) d g. With bias
correction as well, β₁ m is multiplied by (1 − β₁ᵗ) / (1 − β₁ᵗ⁺¹), so that c times the
sum is the average one step ahead of `adam(nesterov=True)`.

Source: Mishchenko & Defazio (2024), "Prodigy: An Expeditiously Adaptive Parameter-Free
Learner", ICML (arXiv 2306.06101), its Adam version, with the options of the authors'
code, prodigyopt 1.1.2. By default that does not correct the bias, and so begins with
longer steps; here it does, and `optax.contrib.prodigy` always does. Nesterov momentum
is an addition. A zero first gradient in Optax, and one NaN in both, stops all training.

The authors' code caps the growth differently. It remembers the largest d̂ of all steps,
so that after one early spike d climbs towards that for ever; here d is compared with
the present d̂ alone. It also lets d leave d₀ by any factor; here G always holds. Only
r / ‖s‖₁ ≤ max |x₀ − x| Σ|g| / |Σg| is certain, with the weights of s in the sums, and
where gradients are noisy the last ratio grows with the number of steps. So the later d
leaves d₀, the less its first leap says about the distance.

The first step that counts is the first whose gradient is not 0. As in the authors'
code, a step with α = 0 does not count. In half precision the first steps, of size d₀,
change only parameters near 0, and d is estimated from those; where none is near 0, d₀
must be larger.
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
from adaptax._core.global_guard import adam_correction, is_usable, unbiased_part
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.prodigy_estimate import Growth, estimate_in, estimator, sum_weight
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import precise, real
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating


class ProdigyState(NamedTuple):
    """The state of `prodigy`.

    `step` counts the steps taken and `skipped` the gradients that were not finite.
    `learning_rate` is d c of the last step, and `rate` the state of its factor α.
    `distance` is d of the next step, `numerator` r and `denominator` ‖s‖₁. `sums` is s,
    `mean` m, `mean_sq` v and `origin` x₀, shaped like the parameters (s and x₀ sliced);
    x₀ has their own dtypes.
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
    origin: optax.Params
    rate: Any


@translating
def prodigy(
    learning_rate: LearningRate = 1.0,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    weight_decay: WeightDecay = 0.0,
    growth: Growth = None,
    freeze_after: int | jax.Array | None = None,
    mask: Mask = None,
    nesterov: bool = False,
    bias_correction: bool = True,
    safeguard_warmup: bool = False,
    slice_p: int = 1,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam at a rate that it infers; needs `params`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, without a unit: 1, or a
            schedule whose peak is 1.
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of its square, 0 <= β₂ < 1.
        b3: β₃, the decay of the sums r and s, 0 <= β₃ < 1; √β₂ if `None`. Whether it is
            `None` is structural.
        eps: ε >= 0, added to the divisor. Where the divisor is 0, so is the step.
        d0: d₀ > 0, the initial d, in the parameters' unit. It should be far below the
            true distance.
        d_coef: κ > 0, which scales the estimates. If one argument is to be tuned, tune
            this one, from 0.5 to 2.
        weight_decay: λ >= 0, decoupled, per unit of γ, or a function of the step.
        growth: G >= 1, the largest factor by which d grows in a step, such as 1.02,
            which acts as a warm-up; or a function of the step from 0 on, of which
            values below 1 count as 1. With `lambda step: 1 + c / (step + 1)` d grows at
            most like the c-th power of the step: from c = 5 on that is hardly a cap.
            `None` for no cap. Whether it is `None` or a function is structural.
        freeze_after: The number of steps after which d is constant; `None` for never.
            Whether it is `None` is structural.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        nesterov: Look one step ahead. Structural.
        bias_correction: Whether to correct the bias of m and v, as Optax always does;
            the authors' code does not by default. Structural.
        safeguard_warmup: Whether to keep α out of s, so that d does not jump in a long
            warm-up. Structural.
        slice_p: Estimate d from every `slice_p`-th entry of each leaf: 11 saves most of
            the memory for x₀ and s. Structural.
        accumulator_dtype: The dtype of s, m and v; by default that of the parameters,
            or float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted.
    Nothing moves before the first gradient that is not 0.

    >>> import optax
    >>> optimizer = prodigy(d0=0.1)
    >>> state = optimizer.init(3.0)
    >>> updates, state = optimizer.update(6.0, state, 3.0)
    >>> float(state.distance)
    0.1
    """
    checks.number("b1", b1, at_least=0, below=1)
    checks.number("b2", b2, at_least=0, below=1)
    checks.number("eps", eps, at_least=0)
    decays, base_rate = decaying(weight_decay, mask), seat(learning_rate)
    distance = estimator(
        sum_weight(b3, b2),
        d0=d0,
        d_coef=d_coef,
        growth=growth,
        freeze_after=freeze_after,
        safeguard_warmup=safeguard_warmup,
        slice_p=slice_p,
        accumulator_dtype=accumulator_dtype,
    )

    def correction(step):
        return adam_correction(b1, b2, step) if bias_correction else real(1.0)

    def init(params):
        return ProdigyState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=real(d0) * correction(jnp.ones((), jnp.int32)),
            mean=accumulators(params, dtype=accumulator_dtype),
            mean_sq=magnitudes(params, dtype=accumulator_dtype),
            rate=base_rate.init(),
            **distance.init(params)._asdict(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "prodigy")
        alpha, rate = base_rate.read(state.rate, **extra_args)
        usable, step = is_usable(updates), counters.increment(state.step)
        factor = state.distance * correction(step)
        counts, estimate = distance.advance(
            estimate_in(state),
            updates,
            params,
            step=state.step,
            rate=factor * alpha,
            where=usable & (alpha > 0),
        )
        updates, mean, mean_sq = by_coordinate(
            _move,
            updates,
            state.mean,
            state.mean_sq,
            reads=(params, decays.mask(params)),
            where=counts,
            w2=precise(lambda xp, b2: 1 - b2, b2),
            **_weights(b1, step, nesterov, bias_correction),
            d=state.distance,
            rate=factor * alpha,
            eps=estimate.distance * real(eps),
            decay=decays.at(state.step),
        )
        return updates, ProdigyState(
            step=counters.increment(state.step, where=counts),
            skipped=counters.increment(state.skipped, where=~usable),
            learning_rate=jnp.where(counts, factor, state.learning_rate),
            mean=mean,
            mean_sq=mean_sq,
            rate=rate,
            **estimate._asdict(),
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _weights(b1: Scalar, step: Any, nesterov: bool, corrected: bool) -> dict[str, Any]:
    """Return the weight of d g in m, and those of m and of d g in the numerator."""
    newest = precise(lambda xp, b1: 1 - b1, b1)
    if not nesterov:
        return {"w1": newest, "keep": real(1.0), "add": real(0.0)}
    keep = real(b1)
    if corrected:
        after = counters.increment(step)
        keep *= unbiased_part(b1, step) / unbiased_part(b1, after)
    return {"w1": newest, "keep": keep, "add": newest}


def _move(g, mean, mean_sq, w, mask, w1, w2, keep, add, d, rate, eps, decay):
    mean = mean + w1 * (d * g - mean)
    mean_sq = mean_sq + w2 * (abs_sq(d * g) - mean_sq)
    numerator = keep * mean + add * (d * g)
    direction = divide(numerator, root(mean_sq) + eps) + decay * mask * w
    return -rate * direction, mean, mean_sq


METHOD = Method(
    {
        "learning_rate": 0.8,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "d0": 0.01,
        "d_coef": 0.9,
        "weight_decay": 0.02,
        "bias_correction": True,
    },
    source="Mishchenko & Defazio (2024)",
    variants=(
        {"nesterov": True, "bias_correction": False, "growth": 1.2, "freeze_after": 30},
        {"nesterov": True, "safeguard_warmup": True, "b3": 0.9, "slice_p": 4},
    ),
    needs=frozenset({"params"}),
    usual_rate=1.0,
    rate="inferred",
)
