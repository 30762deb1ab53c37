"""RAdam: Adam that starts when its root mean square is reliable.

    ρ∞ = 2 / (1 − β₂) − 1,      ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
    r = √( (ρ − 4) (ρ − 2) ρ∞ / ((ρ∞ − 4) (ρ∞ − 2) ρ) )
    w ← w − α r m̂ / (√(v̂ + ε₀) + ε)     where ρ >= 5, with m̂ and v̂ as in Adam
    w ← w − α m̂                         before

ρ is the effective number of gradients in v̂: 1, 2, … at first. The factor r acts as a
warm-up: from near 0 it rises to 1, Adam's step.

Source: Liu, Jiang, He, Chen, Liu, Gao & Han (2020), "On the Variance of the Adaptive
Learning Rate and Beyond", ICLR, Alg. 2. There the threshold is 4; it is 5 by default as
in the authors' code, Optax and PyTorch. With β₂ <= 0.6, ρ stays below 4 and v̂ is never
used.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import (
    accumulators,
    average_weight,
    by_coordinate,
    divide,
    magnitudes,
    root,
    without_bias,
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.rectification import rectification
from adaptax._core.words import translating


class RadamState(NamedTuple):
    """`mean` is m̂ and `mean_sq` v̂; `step` counts the updates, from 0.

    Both are shaped like the parameters, in the accumulator's dtype.
    """

    step: jax.Array
    mean: optax.Updates
    mean_sq: optax.Updates


@translating
def scale_by_radam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Return Adam's direction times r; at first, the averaged gradient.

    Args:
        b1: See `scale_by_adam`.
        b2: See `scale_by_adam`.
        eps: See `scale_by_adam`.
        eps_root: See `scale_by_adam`.
        threshold: The smallest ρ at which v̂ is used, >= 4.
        accumulator_dtype: See `scale_by_adam`.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)
    checks.number("threshold", threshold, at_least=4)

    def rule(g, mean, mean_sq, w1, w2, trusted, r, eps, eps_root):
        mean = mean + w1 * (g - mean)
        mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
        divisor = jnp.where(trusted > 0, root(mean_sq + eps_root) + eps, 1)
        return r * divide(mean, divisor), mean, mean_sq

    def init(params):
        mean = accumulators(params, dtype=accumulator_dtype)
        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        return RadamState(counters.zero(), mean, mean_sq)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        length, factor = rectification(b2, step)
        trusted = length >= jnp.asarray(threshold).astype(length.dtype)
        updates, mean, mean_sq = by_coordinate(
            rule,
            updates,
            state.mean,
            state.mean_sq,
            w1=average_weight(b1, step),
            w2=average_weight(b2, step),
            trusted=trusted,
            r=jnp.where(trusted, factor, 1),
            eps=eps,
            eps_root=eps_root,
        )
        return updates, RadamState(step, mean, mean_sq)

    def converted(theirs):
        mean = without_bias(theirs.mu, b1, theirs.count)
        mean_sq = without_bias(theirs.nu, b2, theirs.count)
        return RadamState(theirs.count, mean, mean_sq)

    conversions = {"ScaleByAdamState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def radam(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """RAdam, ready to use; see `scale_by_radam` for the other arguments.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_radam(
        b1, b2, eps, eps_root, threshold, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {
        "learning_rate": 0.1,
        "b1": 0.8,
        "b2": 0.9,  # in float32, the ρ of Optax is ever farther off towards 1
        "eps": 1e-6,
        "eps_root": 1e-7,
        "threshold": 5.5,
    },
    source="Liu, Jiang, He, Chen, Liu, Gao & Han (2020)",
    usual_rate=0.002,
)
