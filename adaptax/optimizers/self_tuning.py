"""Self-tuning: no rate, no schedule and no horizon to choose.

    γ = α d c,   d ← max(d, min(d̂, G d))           d̂: Prodigy's estimate
    w ← w − γ (u + λ w)                            u: a direction, by default Adam's
    w̄ ← w̄ + (1 + ν)/(t + ν) · (w − w̄)              where the model is evaluated

Three parts, each public, do what is otherwise tuned. Prodigy's distance d finds the
size of the steps, from Adam's usual 1e-3 upwards. The cap G on its growth is a warm-up:
without it d leaps, in 30 to 100 steps, to several times what a network bears, and never
shrinks. The average of the iterates stands for the decay of the rate, so that no step
is the last. With the direction "adam" it is, written out,

    iterate_average(prodigy(nesterov=True, b2=0.95, d0=1e-3, weight_decay=0.02,
                            growth=1.05))

and with another direction, whose steps have the size 1 in each coordinate,

    iterate_average(prodigy_distance(optax.chain(with_weight_decay(direction, 0.02),
                                                 descend(1.0)),
                                     b3=0.95**0.5, d0=1e-3, growth=1.05))

where "muon" is `scale_by_muon(consistent_rms=0.2)`: orthogonalized matrices scaled by
0.2 √max(m, n), and Adam for all other leaves. If the length of the run is known, G is
exp(40/T), so that d may grow by the same factor in any run's first tenth.

Source: Mishchenko & Defazio (2024), "Prodigy: An Expeditiously Adaptive Parameter-Free
Learner", ICML (arXiv 2306.06101), for d; Dozat (2016), "Incorporating Nesterov Momentum
into Adam"; Shamir & Zhang (2013), "Stochastic Gradient Descent for Non-smooth
Optimization", ICML, for the average. The combination and its numbers are this
library's.
"""

from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import optax

from adaptax._core import checks
from adaptax._core.averaged_iterates import with_average
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.probing import probe
from adaptax._core.prodigy_distance import with_distance
from adaptax._core.prodigy_estimate import Growth, estimator, sum_weight
from adaptax._core.rates import LearningRate, as_rate
from adaptax._core.scalars import real
from adaptax._core.scaling import negate
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating
from adaptax.optimizers.muon import scale_by_muon
from adaptax.optimizers.prodigy import prodigy

Direction = Literal["adam", "muon"]


@translating
def self_tuning(
    learning_rate: LearningRate = 1.0,
    *,
    direction: Direction | optax.GradientTransformation = "adam",
    total_steps: Scalar | None = None,
    growth: Growth = None,
    b1: Scalar = 0.9,
    b2: Scalar = 0.95,
    b3: Scalar | None = None,
    eps: Scalar = 1e-8,
    d0: Scalar = 1e-3,
    d_coef: Scalar = 1.0,
    weight_decay: WeightDecay = 0.02,
    gamma: Scalar = 8.0,
    mask: Mask = None,
    slice_p: int = 1,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Train with nothing tuned; needs `params`.

    Evaluate the model at `eval_params(state, params)`. `learning_rate(state)` is the
    rate that was inferred, and `telemetry(state)` has d as well.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted.
    Nothing moves before the first gradient that is not 0.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, without a unit: 1, or a
            schedule whose peak is 1.
        direction: "adam", with Nesterov momentum; "muon"; or a direction such as
            `adaptax.scale_by_lion()`, whose steps should have the size 1 in each
            coordinate. Structural.
        total_steps: T >= 1, the length of the run if it is known. It only sets the
            `growth`. Whether it is `None` is structural.
        growth: G >= 1, the largest factor by which d grows in a step, or a function of
            the step; see `prodigy`. A large number is no cap. `None` for exp(40/T), or
            1.05 where T is not known. Whether it is `None` or a function is structural.
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1. This, β₂ in the
            direction, and ε belong to "adam" and to Adam's leaves in "muon"; a
            direction that is given has its own.
        b2: β₂, the averaging factor of its square, 0 <= β₂ < 1.
        b3: β₃, the decay of the sums r and s, 0 <= β₃ < 1; √β₂ if `None`. Whether it is
            `None` is structural.
        eps: ε >= 0, relative to d (in "muon" to d₀), added to the divisor.
        d0: d₀ > 0, the initial d, in the parameters' unit, and the least: d never
            shrinks. Where Adam's usual 1e-3 is too much, as for most models that are
            trained already, it must be smaller, such as 1e-5.
        d_coef: κ > 0, which scales the estimates.
        weight_decay: λ >= 0, decoupled, per unit of γ, or a function of the step.
        gamma: ν >= 0: the larger, the more the last points weigh in the average.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        slice_p: Estimate d from every `slice_p`-th entry of each leaf: 11 saves most of
            the memory for x₀ and s. Structural.
        accumulator_dtype: The dtype of all sums and averages; by default that of the
            parameters, or float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> import jax.numpy as jnp
    >>> written_out = adaptax.iterate_average(
    ...     adaptax.prodigy(
    ...         b2=0.95,
    ...         d0=1e-3,
    ...         weight_decay=0.02,
    ...         growth=1.05,
    ...         nesterov=True,
    ...     )
    ... )
    >>> for optimizer in (self_tuning(), written_out):
    ...     w = jnp.asarray([1.0, -2.0])
    ...     state = optimizer.init(w)
    ...     for _ in range(3):
    ...         updates, state = optimizer.update(w, state, w)
    ...         w = w + updates
    ...     print(adaptax.eval_params(state, w))
    [ 0.99640894 -1.9963088 ]
    [ 0.99640894 -1.9963088 ]
    """
    if total_steps is not None:
        checks.steps("total_steps", total_steps, at_least=1)
    if growth is None:
        growth = 1.05 if total_steps is None else jnp.exp(40 / real(total_steps))
    distance: dict[str, Any] = {
        "d0": d0,
        "d_coef": d_coef,
        "growth": growth,
        "slice_p": slice_p,
        "accumulator_dtype": accumulator_dtype,
    }
    averaged = partial(
        with_average,
        gamma=gamma,
        accumulator_dtype=accumulator_dtype,
        who="self_tuning",
    )
    if direction == "adam":
        tuned = prodigy(
            learning_rate,
            b1=b1,
            b2=b2,
            b3=b3,
            eps=eps,
            weight_decay=weight_decay,
            mask=mask,
            nesterov=True,
            **distance,
        )
        return averaged(tuned)
    if direction == "muon":
        direction = scale_by_muon(
            b1=b1,
            b2=b2,
            eps=eps * d0,
            consistent_rms=0.2,
            accumulator_dtype=accumulator_dtype,
        )
    inner = optax.chain(
        with_weight_decay(_checked(direction), weight_decay, mask),
        as_rate(learning_rate),
        optax.stateless(negate),
    )
    estimate = estimator(
        sum_weight(b3, b2), freeze_after=None, safeguard_warmup=False, **distance
    )
    return averaged(with_distance(inner, estimate))


def _checked(direction: Any) -> optax.GradientTransformation:
    """Return a direction that is given, unless it is something else.

    Raises:
        TypeError: If it is not a transformation.
        ValueError: If it is another name, or a whole optimizer.
    """
    if isinstance(direction, str):
        checks.one_of("direction", direction, Direction)
    if not isinstance(direction, optax.GradientTransformation):
        raise TypeError(
            'direction must be "adam", "muon" or a transformation such as '
            f"adaptax.scale_by_lion(), got {direction!r}."
        )
    climbs = [np.vdot(update, moved) < 0 for update, moved in probe(direction) or ()]
    if climbs and all(climbs):
        raise ValueError(
            "direction got a whole optimizer, which has its own minus sign: its steps "
            "would climb. Pass its direction, such as adaptax.scale_by_lion(), or put "
            "adaptax.prodigy_distance around the optimizer."
        )
    return direction


METHOD = Method(
    {
        "learning_rate": 0.8,
        "growth": 1.2,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "d0": 0.01,
        "d_coef": 0.9,
        "weight_decay": 0.02,
        "gamma": 4.0,
    },
    source="Mishchenko & Defazio (2024)",
    variants=({"direction": "muon", "growth": None, "total_steps": 200},),
    needs=frozenset({"params"}),
    differs="Optax has no such optimizer.",
    usual_rate=1.0,
    rate="inferred",
)
