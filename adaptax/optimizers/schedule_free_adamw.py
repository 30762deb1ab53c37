"""Schedule-free AdamW: averaging instead of a schedule and of Adam's momentum.

    v ← β₂ v + (1 − β₂) g²
    z ← z − γ (g / (√v̂ + ε) + λ y),    x ← x + c (z − x),    y ← (1 − β) z + β x

The gradient g is taken at y, the trained parameters; `eval_params` returns x, where the
model is evaluated. For the weights c of the average see `schedule_free`.

Source: Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024), "The Road Less
Scheduled", NeurIPS (arXiv 2405.15682), Alg. 1. `optax.contrib.schedule_free_adamw`
stores only z, and solves for x.
"""

from typing import Any

import optax

from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, seat
from adaptax._core.schedule_free import downhill, scale_by_mean_square, schedule_free_at
from adaptax._core.weight_decay import Mask, WeightDecay
from adaptax._core.words import translating


@translating
def schedule_free_adamw(
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
    """AdamW, schedule-free; see `schedule_free`.

    Args:
        learning_rate: γ, anything that `adaptax.descend` takes. The authors recommend
            0.0025.
        b1: β in [0, 1]. At 1 the gradients are taken at the average x, at 0 at z.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        eps: ε >= 0, added outside the root. Where the divisor is 0, so is the update.
        weight_decay: λ >= 0, or a function of the step: u = −(g / (√v̂ + ε) + λ y).
        weight_power: p >= 0. The larger, the less the steps of a warm-up weigh.
        step_power: r >= 0. The larger, the more the last steps weigh.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        accumulator_dtype: The dtype of z, x and v̂; by default that of the parameters,
            or float32 for half precision.
    """
    return schedule_free_at(
        downhill(scale_by_mean_square(b2, eps, accumulator_dtype), weight_decay, mask),
        seat(learning_rate, needs_unit=True),
        b1,
        weight_power,
        step_power,
        accumulator_dtype=accumulator_dtype,
    )


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "weight_decay": 0.01,
        "weight_power": 2.0,
        "step_power": 0.0,
    },
    source="Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
    needs=frozenset({"params"}),
    usual_rate=0.005,
    rate="inferred",
)
