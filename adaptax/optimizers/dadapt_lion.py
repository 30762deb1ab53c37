"""D-Adaptation for Lion: the sign of a momentum, at a rate that follows the distance.

    γ = α d,   u = sign(β₁ m + (1 − β₁) g)
    m ← β₂ m + (1 − β₂) γ g
    r ← √β₂ r + (1 − √β₂) γ ⟨u, s⟩         (s of the previous step)
    s ← √β₂ s + (1 − √β₂) γ u
    x ← x − γ (u + λ x)
    d̂ = r / ((1 − √β₂) ‖s‖₁),   d ← max(d, min(d̂, G d))

Source: Defazio & Mishchenko (2023), "Learning-Rate-Free Learning by D-Adaptation", ICML
(arXiv 2301.07733). Lion is not in the paper, only in the authors' code, dadaptation
3.2, as an experiment. As there, m averages γ g, which is small beside g, so u is nearly
sign(g). It must be: d̂ is a bound only as long as u has the gradient's sign, and with
Lion's own average of g it would lag behind. The bound is not proven: with α = 1, d grew
without limit on the bundled digits, here and in the authors' code. Start with α = 0.2,
falling, and watch `distance`, or set a growth cap.

As in the other methods of D-Adaptation, a step with α = 0 does not count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate, unit
from adaptax._core.global_guard import has_begun, is_usable
from adaptax._core.guards import guarded
from adaptax._core.leaves import (
    inner_product,
    is_placeholder,
    is_trained,
    times,
)
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import precise, real
from adaptax._core.weight_decay import Mask, WeightDecay, decaying
from adaptax._core.words import translating
from adaptax.optimizers.d_adaptation import next_bound, require_distance, sum_weight


class DAdaptLionState(NamedTuple):
    """The state of `dadapt_lion`.

    `step` counts the steps taken and `skipped` the gradients that were not finite.
    `learning_rate` is d of the last step, and `rate` the state of its factor α.
    `distance` is d of the next step, `numerator` r and `denominator` ‖s‖₁. `sums` is s
    and `mean` m, shaped like the parameters.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array
    sums: optax.Updates
    mean: optax.Updates
    rate: Any


@translating
def dadapt_lion(
    learning_rate: LearningRate = 1.0,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    d0: Scalar = 1e-6,
    weight_decay: WeightDecay = 0.0,
    growth: Scalar | None = None,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion at a rate that it infers; needs `params`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, without a unit: 1 in
            the authors' code, but a schedule that falls from 0.2 is safer.
        b1: β₁, the weight of the average in the direction, 0 <= β₁ < 1.
        b2: β₂, the averaging factor, 0 <= β₂ < 1.
        d0: d₀ > 0, the initial d, in the parameters' unit. It should be far below the
            true distance.
        weight_decay: λ >= 0, decoupled, per unit of γ, or a function of the step.
        growth: G >= 1, the largest factor by which d grows in a step, such as 1.02,
            which acts as a warm-up; `None` for no cap. Whether it is `None` is
            structural.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        accumulator_dtype: The dtype of s and m; by default that of the parameters, or
            float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted.
    Nothing moves before the first gradient that is not 0.
    """
    checks.number("b1", b1, at_least=0, below=1)
    checks.number("b2", b2, at_least=0, below=1)
    require_distance(d0, growth)
    decays, base_rate = decaying(weight_decay, mask), seat(learning_rate)

    def direction(g, mean):
        weight = jnp.asarray(b1)
        return unit(times(mean, weight) + times(g.astype(mean.dtype), 1 - weight))

    def move(g, sums, mean, w, mask, sum_weight, w2, rate, decay):
        u = direction(g, mean)
        sums = sums + sum_weight * (rate * u - sums)
        mean = mean + w2 * (rate * g - mean)
        return -rate * (u + decay * mask * w), sums, mean

    def directions(updates, means):
        def leaf(g, mean):
            trained = is_trained(g) and is_trained(mean)
            return direction(jnp.asarray(g), mean) if trained else g

        return jax.tree.map(leaf, updates, means, is_leaf=is_placeholder)

    def init(params):
        return DAdaptLionState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=real(d0),
            distance=real(d0),
            numerator=real(0.0),
            denominator=real(0.0),
            sums=accumulators(params, dtype=accumulator_dtype),
            mean=accumulators(params, dtype=accumulator_dtype),
            rate=base_rate.init(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "dadapt_lion")
        alpha, rate = base_rate.read(state.rate, **extra_args)
        usable, factor = is_usable(updates), state.distance
        counts = usable & (alpha > 0) & has_begun(updates, state.denominator)
        new_updates, sums, mean = by_coordinate(
            move,
            updates,
            state.sums,
            state.mean,
            reads=(params, decays.mask(params)),
            where=counts,
            sum_weight=sum_weight(b2),
            w2=precise(lambda xp, b2: 1 - b2, b2),
            rate=factor * alpha,
            decay=decays.at(state.step),
        )
        gained = inner_product(
            directions(updates, state.mean), state.sums, computed=True
        )
        gained *= factor * alpha
        bound = next_bound(state, counts, factor, gained, sums, sum_weight(b2), growth)
        return new_updates, DAdaptLionState(
            step=counters.increment(state.step, where=counts),
            skipped=counters.increment(state.skipped, where=~usable),
            learning_rate=bound.learning_rate,
            distance=bound.distance,
            numerator=bound.numerator,
            denominator=bound.denominator,
            sums=sums,
            mean=mean,
            rate=rate,
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


METHOD = Method(
    {
        "learning_rate": 0.8,
        "b1": 0.8,
        "b2": 0.9,
        "d0": 0.01,
        "weight_decay": 0.02,
    },
    source="Defazio & Mishchenko (2023)",
    variants=({"growth": 1.02},),
    needs=frozenset({"params"}),
    differs="Optax has no D-Adaptation of Lion.",
    usual_rate=0.2,
    rate="inferred",
)
