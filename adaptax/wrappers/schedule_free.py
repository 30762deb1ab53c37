"""Schedule-free learning: averaging instead of a schedule, without a known end.

    y_t = (1 − β) z_t + β x_t                 where the gradient is taken
    z_{t+1} = z_t + γ_t u_t                   u: the inner optimizer's update at y_t
    x_{t+1} = x_t + c_t (z_{t+1} − x_t)       where the model is evaluated
    c_t = w_t / Σ_{s≤t} w_s,   w_t = tʳ (max_{s≤t} γ_s)ᵖ,   t = 1, 2, …

The trained parameters are y; `eval_params` returns x at any time. β replaces momentum,
so the inner optimizer needs none: Adam without it divides g by √v̂ + ε. Keep the rate
constant after a warm-up; the weights follow the rate.

Source: Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024), "The Road Less
Scheduled", NeurIPS (arXiv 2405.15682), Alg. 1. The authors' package and
`optax.contrib.schedule_free` store only z and solve for x. Here x is stored as well, so
that it keeps its precision beside parameters in half precision, and β = 0 is allowed.
"""

from typing import Any

import jax.numpy as jnp
import optax

from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, Seat, seat
from adaptax._core.schedule_free import schedule_free_at
from adaptax._core.words import translating


@translating
def schedule_free(
    inner: optax.GradientTransformation,
    learning_rate: LearningRate | None = None,
    b1: Scalar = 0.9,
    weight_power: Scalar = 2.0,
    *,
    step_power: Scalar = 0.0,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Average the iterates of an optimizer, and take gradients near the average.

    The `learning_rate` multiplies the updates of `inner`, which therefore has a rate of
    1: `schedule_free(optax.sgd(1.0), 0.1)`. In `optax.contrib.schedule_free` it only
    weights the average, and `inner` needs it as well.

    An element of an inner update that is not finite counts as 0.

    Args:
        inner: The optimizer, best without momentum. Its own rate, if it has one,
            multiplies γ but does not enter the weights: warm up by `learning_rate`.
        learning_rate: γ, anything that `adaptax.descend` takes; `None` for 1.
            Whether it is `None` is structural.
        b1: β in [0, 1]. At 1 the gradients are taken at the average x, at 0 at z.
        weight_power: p >= 0. The larger, the less the steps of a warm-up weigh.
        step_power: r >= 0. The larger, the more the last steps weigh.
        accumulator_dtype: The dtype of z and x; by default that of the parameters, or
            float32 for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    rate = _ONE if learning_rate is None else seat(learning_rate)
    powers = (weight_power, step_power)
    return schedule_free_at(
        inner, rate, b1, *powers, accumulator_dtype=accumulator_dtype
    )


_ONE = Seat(
    optax.EmptyState, lambda state, **extra_args: (jnp.ones((), jnp.float32), state)
)


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "weight_power": 2.0, "step_power": 1.5},
    source="Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky (2024)",
    needs=frozenset({"params"}),
    differs="optax.contrib.schedule_free has no power of the step.",
    rate="inferred",
)
