"""ADOPT: Adam with its operations reordered, which converges with any β₂.

    c = t^(1/4)                     t = 0, 1, 2, …
    m ← β₁ m + (1 − β₁) clip(g / max(√v, ε), −c, c)
    v ← β₂ v + (1 − β₂) g²          v ← g² at t = 0
    w ← w − α m

The gradient is divided before it is averaged, by a v that does not contain it. The
first call does not move the parameters: it only sets v.

Source: Taniguchi et al. (2024), "ADOPT: Modified Adam Can Converge with Any β₂ with the
Optimal Rate", NeurIPS, Alg. 2, with the clipping that the authors recommend. In Optax
the clipping can be chosen, or switched off.
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
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq, is_complex
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


class AdoptState(NamedTuple):
    """`mean` is m and `mean_sq` v; `step` counts the updates, from 0.

    Both are shaped like the parameters, in the accumulator's dtype. m is not
    bias-corrected.
    """

    step: jax.Array
    mean: optax.Updates
    mean_sq: optax.Updates


@translating
def scale_by_adopt(
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Average the gradients, each divided by the root mean square of earlier ones.

    Args:
        b1: β₁, the averaging factor of the divided gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        eps: ε >= 0, the smallest divisor. With 0, a gradient counts as 0 if all earlier
            ones were 0.
        accumulator_dtype: The dtype of m and v; by default that of the parameters, or
            float32 for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)

    def rule(g, mean, mean_sq, b1, w2, clip, eps):
        divided = divide(g, jnp.maximum(root(mean_sq), eps))
        mean = mean + (1 - b1) * (_clipped(divided, clip) - mean)
        return mean, mean, mean_sq + w2 * (abs_sq(g) - mean_sq)

    def init(params):
        mean = accumulators(params, dtype=accumulator_dtype)
        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        return AdoptState(counters.zero(), mean, mean_sq)

    def update(updates, state, params=None):
        del params
        real = jnp.result_type(float)
        updates, mean, mean_sq = by_coordinate(
            rule,
            updates,
            state.mean,
            state.mean_sq,
            b1=b1,
            w2=jnp.where(state.step > 0, 1 - jnp.asarray(b2).astype(real), 1),
            clip=jnp.sqrt(jnp.sqrt(state.step.astype(real))),
            eps=eps,
        )
        return updates, AdoptState(counters.increment(state.step), mean, mean_sq)

    return guarded(optax.GradientTransformation(init, update))


@translating
def adopt(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """ADOPT, ready to use; see `scale_by_adopt` for the other arguments.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adopt(b1, b2, eps, accumulator_dtype=accumulator_dtype)
    return optax.chain(direction, descend(learning_rate))


def _clipped(divided: jax.Array, clip: jax.Array) -> jax.Array:
    """Clip each number to the bound, a complex one by its absolute value."""
    if not is_complex(divided):
        return jnp.clip(divided, -clip, clip)
    size = jnp.abs(divided)
    return divided * jnp.where(size > clip, divide(clip, size), 1)


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6},
    source="Taniguchi et al. (2024)",
    usual_rate=0.002,
)
