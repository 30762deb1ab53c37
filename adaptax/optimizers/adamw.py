"""AdamW: Adam with decoupled weight decay.

    w ← w − α (m̂ / (√(v̂ + ε₀) + ε) + λ w)      with m̂ and v̂ as in Adam

Source: Loshchilov & Hutter (2019), "Decoupled Weight Decay Regularization", ICLR, Alg.
2. λ is 1e-4 by default, as in Optax; PyTorch has 1e-2.
"""

from typing import Any

import optax

from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating
from adaptax.optimizers.adam import scale_by_adam


@translating
def scale_by_adamw(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    weight_decay: WeightDecay = 1e-4,
    mask: Mask = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Return Adam's direction plus the weight decay; needs `params`.

    Args:
        b1: See `scale_by_adam`.
        b2: See `scale_by_adam`.
        eps: See `scale_by_adam`.
        eps_root: See `scale_by_adam`.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
        nesterov: See `scale_by_adam`.
        accumulator_dtype: See `scale_by_adam`.
    """
    direction = scale_by_adam(
        b1, b2, eps, eps_root, nesterov=nesterov, accumulator_dtype=accumulator_dtype
    )
    return with_weight_decay(direction, weight_decay, mask)


@translating
def adamw(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    weight_decay: WeightDecay = 1e-4,
    mask: Mask = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdamW, ready to use; see `scale_by_adamw` for the other arguments.

    The default weight decay is 1e-4, as in Optax. PyTorch has 1e-2; Keras has 4e-3, and
    eps=1e-7.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adamw(
        b1,
        b2,
        eps,
        eps_root,
        weight_decay=weight_decay,
        mask=mask,
        nesterov=nesterov,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b1": 0.8,
        "b2": 0.99,
        "eps": 1e-6,
        "eps_root": 1e-7,
        "weight_decay": 0.01,
    },
    source="Loshchilov & Hutter (2019)",
    needs=frozenset({"params"}),
    usual_rate=0.002,
)
