"""Prodigy's distance: a learning rate for any optimizer, from how far it has come.

    r ← β₃ r + (d/d₀) α d ⟨g, x₀ − x⟩
    s ← β₃ s + (d/d₀) α d g                        (safeguarded: d instead of α d)
    x ← x + d u(d g)
    d̂ = κ r / ‖s‖₁,   d ← max(d, min(d̂, G d))

u are the updates of the inner optimizer, made from d times the gradients, and α is its
own rate. d grows from d₀ towards the distance from x₀ to the solution, measured in the
largest coordinate. It is meant for inner steps of the size α in each coordinate,
whatever the size of the gradient, such as those of Adam, Lion and Muon.

Source: Mishchenko & Defazio (2024), "Prodigy: An Expeditiously Adaptive Parameter-Free
Learner", ICML (arXiv 2306.06101). There the inner optimizer is Adam. Around an AdamW
that does not correct the bias, with ε = 0, this is `prodigy(bias_correction=False)`,
whose correction is a part of α.
"""

from typing import Any

import jax
import optax

from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.prodigy_distance import with_distance
from adaptax._core.prodigy_estimate import Growth, estimator, sum_weight
from adaptax._core.words import translating


@translating
def prodigy_distance(
    inner: optax.GradientTransformation,
    *,
    b3: Scalar = 0.9995,
    d0: Scalar = 1e-6,
    d_coef: Scalar = 1.0,
    growth: Growth = None,
    freeze_after: int | jax.Array | None = None,
    safeguard_warmup: bool = False,
    slice_p: int = 1,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Multiply an optimizer's steps by a distance that is estimated on the way.

    `learning_rate(state)` is then d times the inner rate.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted: the
    inner state stays as it is. Nothing moves before the first gradient that is not 0.

    Args:
        inner: The optimizer, at a rate of 1, or the shape of a schedule. A rate that it
            does not show, as in `optax.adamw(1.0)`, counts as 1 in the sums, and so do
            those of a partition. Its ε is added to what is made of d g, so it should be
            far below d₀ times the gradients. A wrapper that follows the parameters,
            such as `iterate_average`, belongs around this one.
        b3: β₃, the decay of the sums r and s, 0 <= β₃ < 1. In Prodigy it is √β₂.
        d0: d₀ > 0, the initial d, in the parameters' unit. It should be far below the
            true distance.
        d_coef: κ > 0, which scales the estimates.
        growth: G >= 1, the largest factor by which d grows in a step, or a function of
            the step; see `prodigy`. Whether it is `None` or a function is structural.
        freeze_after: The number of steps after which d is constant; `None` for never.
            Whether it is `None` is structural.
        safeguard_warmup: Whether to keep α out of s, so that d does not jump in a long
            warm-up. Structural.
        slice_p: Estimate d from every `slice_p`-th entry of each leaf: 11 saves most of
            the memory for x₀ and s. Structural.
        accumulator_dtype: The dtype of s; by default that of the parameters, or float32
            for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> optimizer = prodigy_distance(adaptax.lion(1.0), d0=0.5)
    >>> state = optimizer.init(3.0)
    >>> updates, state = optimizer.update(6.0, state, 3.0)
    >>> float(updates), float(adaptax.learning_rate(state))
    (-0.5, 0.5)
    """
    distance = estimator(
        sum_weight(b3),
        d0=d0,
        d_coef=d_coef,
        growth=growth,
        freeze_after=freeze_after,
        safeguard_warmup=safeguard_warmup,
        slice_p=slice_p,
        accumulator_dtype=accumulator_dtype,
    )
    return with_distance(inner, distance)


METHOD = Method(
    {"learning_rate": 0.8, "b3": 0.9, "d0": 0.05, "d_coef": 0.9},
    source="Mishchenko & Defazio (2024)",
    variants=(
        {"growth": 1.2, "freeze_after": 30, "safeguard_warmup": True, "slice_p": 4},
    ),
    needs=frozenset({"params"}),
    differs="Optax has Prodigy around Adam alone.",
    rate="inferred",
)
