"""NAdam: Adam with Nesterov momentum.

    m ← β₁ m + (1 − β₁) g,      v ← β₂ v + (1 − β₂) g²
    m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ),      v̂ = v / (1 − β₂ᵗ)
    w ← w − α m̂ / (√(v̂ + ε₀) + ε)

It is `adam(nesterov=True)` under its usual name.

Source: Dozat (2016), "Incorporating Nesterov Momentum into Adam", ICLR workshop, with
the constant momentum of Optax. PyTorch has Dozat's schedule of the momentum,
β₁ (1 − 0.5 · 0.96^(t/250)), which rises from β₁/2 to 99 % of β₁ after 24 000 steps.
"""

from typing import Any

import optax

from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating
from adaptax.optimizers.adam import scale_by_adam


@translating
def scale_by_nadam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide the averaged gradient, one step ahead, by its root mean square.

    Args:
        b1: See `scale_by_adam`.
        b2: See `scale_by_adam`.
        eps: See `scale_by_adam`.
        eps_root: See `scale_by_adam`.
        accumulator_dtype: See `scale_by_adam`.
    """
    return scale_by_adam(
        b1, b2, eps, eps_root, nesterov=True, accumulator_dtype=accumulator_dtype
    )


@translating
def nadam(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """NAdam, ready to use; see `scale_by_adam` for the other arguments.

    The momentum is constant, as in Optax; in PyTorch and Keras it rises to b1. Keras
    has eps=1e-7.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_nadam(
        b1, b2, eps, eps_root, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
    source="Dozat (2016)",
    usual_rate=0.002,
)
