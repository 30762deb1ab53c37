"""Schedule-free RAdam: `schedule_free_adamw` with RAdam's warm-up.

    γ_t = η √[(ρ_t − 4)(ρ_t − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ_t)]   where ρ_t > 4,
    γ_t = 0   otherwise,   ρ∞ = 2/(1 − β₂) − 1,   ρ_t = ρ∞ − 2t β₂ᵗ/(1 − β₂ᵗ)

Source: Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024), "The Road Less
Scheduled", NeurIPS (arXiv 2405.15682), Alg. 1; RAdam: Liu et al. (2020), "On the
Variance of the Adaptive Learning Rate and Beyond", ICLR. Optax has no such
method.
"""

from typing import Any

import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, as_rate
from adaptax._core.rectification import rectification
from adaptax._core.schedule import as_schedule
from adaptax._core.weight_decay import Mask, WeightDecay
from adaptax._core.words import translating
from adaptax.optimizers.schedule_free_adamw import schedule_free_adamw


@translating
def schedule_free_radam(
    learning_rate: LearningRate,
    *,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: WeightDecay = 0.0,
    weight_power: Scalar = 2.0,
    step_power: Scalar = 0.0,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """RAdam, schedule-free; see `schedule_free`.

    Args:
        learning_rate: η, anything that `adaptax.descend` takes.
        b1: β in [0, 1]. At 1 the gradients are taken at the average x, at 0 at z.
        b2: β₂, 0 <= β₂ < 1. Up to 3/5, ρ_t never exceeds 4, and nothing moves.
        eps: ε >= 0, added outside the root.
        weight_decay: λ >= 0, or a function of the step: u = −(g / (√v̂ + ε) + λ y).
        weight_power: p >= 0. The larger, the less the steps of a warm-up weigh.
        step_power: r >= 0. The larger, the more the last steps weigh.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        accumulator_dtype: The dtype of z, x and v̂; by default that of the parameters,
            or float32 for half precision.
    """
    checks.averaging_factor("b2", b2)
    rectified = optax.chain(
        as_rate(learning_rate, needs_unit=True), as_schedule(_rectified(b2))
    )
    return schedule_free_adamw(
        rectified,
        b1=b1,
        b2=b2,
        eps=eps,
        weight_decay=weight_decay,
        weight_power=weight_power,
        step_power=step_power,
        mask=mask,
        accumulator_dtype=accumulator_dtype,
    )


def _rectified(b2: Scalar):
    def rectify(step):
        length, factor = rectification(b2, step + 1)
        return jnp.where(length > 4, factor, 0)

    return rectify


METHOD = Method(
    {
        "learning_rate": 0.2,
        "b1": 0.8,
        "b2": 0.9,
        "eps": 1e-6,
        "weight_decay": 0.01,
        "weight_power": 2.0,
        "step_power": 0.0,
    },
    source="Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
    needs=frozenset({"params"}),
    differs="Optax has no schedule-free RAdam.",
    usual_rate=0.005,
    rate="inferred",
)
