"""AdEMAMix: Adam with a second, slow average of the gradients.

    m ← β₁ m + (1 − β₁) g,     m̂ = m / (1 − β₁ᵗ)
    k ← β k + (1 − β) g        with β = β₃, without correction
    v ← β₂ v + (1 − β₂) g²,    v̂ = v / (1 − β₂ᵗ)
    w ← w − α ((m̂ + a k) / (√(v̂ + ε₀) + ε) + λ w)

Training may diverge if the slow average has its full weight from the start. With a
warm-up over T steps, a is a₀ min(t/T, 1), and the horizon of the slow average grows
from that of the fast one:

    1 / ln β = (1 − r) / ln β₁ + r / ln β₃,     r = min(t/T, 1)

Source: Pagliardini, Ablin & Grangier (2025), "The AdEMAMix Optimizer: Better, Faster,
Older", ICLR, Alg. 1 and eq. of its schedulers with β_start = β₁. a₀ is 5 by default as
in Optax, which lets the two factors be schedules instead; λ is 0.
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
)
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating


class AdemamixState(NamedTuple):
    """`mean` is m̂, `slow_mean` k and `mean_sq` v̂; `step` counts the updates, from 0.

    All are shaped like the parameters, in the accumulator's dtype.
    """

    step: jax.Array
    mean: optax.Updates
    slow_mean: optax.Updates
    mean_sq: optax.Updates


@translating
def scale_by_ademamix(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    warmup_steps: Scalar = 0,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide a fast plus a slow average of the gradient by its root mean square.

    Args:
        b1: β₁, the averaging factor of the fast average, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of the squared gradient, 0 <= β₂ < 1.
        b3: β₃, the averaging factor of the slow average, 0 <= β₃ < 1.
        alpha: a₀ >= 0, the weight of the slow average, which takes about 1 / (1 − β₃)
            steps to reach its full size.
        eps: ε >= 0, added outside the root.
        eps_root: ε₀ >= 0, added inside the root. Where the divisor is 0, so is the
            update.
        warmup_steps: T >= 0, the steps over which a and the slow average's horizon
            grow. The authors use the length of the training; the default is 0, none.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.averaging_factor("b3", b3)
    checks.number("alpha", alpha, at_least=0)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)
    checks.steps("warmup_steps", warmup_steps)

    def rule(g, mean, slow, mean_sq, w1, w2, w3, alpha, eps, eps_root):
        mean = mean + w1 * (g - mean)
        slow = slow + w3 * (g - slow)
        mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
        direction = divide(mean + alpha * slow, root(mean_sq + eps_root) + eps)
        return direction, mean, slow, mean_sq

    def init(params):
        def zeros():
            return accumulators(params, dtype=accumulator_dtype)

        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        return AdemamixState(counters.zero(), zeros(), zeros(), mean_sq)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        part = _part(step, warmup_steps)
        updates, mean, slow, mean_sq = by_coordinate(
            rule,
            updates,
            state.mean,
            state.slow_mean,
            state.mean_sq,
            w1=average_weight(b1, step),
            w2=average_weight(b2, step),
            w3=_slow_weight(b1, b3, part),
            alpha=jnp.asarray(alpha).astype(part.dtype) * part,
            eps=eps,
            eps_root=eps_root,
        )
        return updates, AdemamixState(step, mean, slow, mean_sq)

    return guarded(optax.GradientTransformation(init, update))


@translating
def ademamix(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    weight_decay: WeightDecay = 0.0,
    mask: Mask = None,
    warmup_steps: Scalar = 0,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdEMAMix with decoupled weight decay; see `scale_by_ademamix` for the rest.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
            Needs `params` at every update.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
    """
    direction = scale_by_ademamix(
        b1,
        b2,
        b3,
        alpha,
        eps,
        eps_root,
        warmup_steps=warmup_steps,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), descend(learning_rate)
    )


def _part(step: jax.Array, warmup_steps: Scalar) -> jax.Array:
    """Return the completed fraction of the warm-up; 1 where there is none."""
    real = jnp.result_type(float)
    total = jnp.asarray(warmup_steps).astype(real)
    return jnp.where(total > 0, jnp.minimum(divide(step.astype(real), total), 1), 1)


def _slow_weight(b1: Scalar, b3: Scalar, part: jax.Array) -> jax.Array:
    """Return 1 − β; after the warm-up it is 1 − β₃, without logarithms."""
    fast, slow = (jnp.asarray(b).astype(part.dtype) for b in (b1, b3))
    smallest = jnp.finfo(part.dtype).tiny
    log_fast, log_slow = (jnp.log(jnp.maximum(b, smallest)) for b in (fast, slow))
    blend = divide(log_fast * log_slow, (1 - part) * log_slow + part * log_fast)
    return jnp.where(part < 1, -jnp.expm1(blend), 1 - slow)


METHOD = Method(
    {
        "learning_rate": 0.05,
        "b1": 0.8,
        "b2": 0.99,
        "b3": 0.95,
        "alpha": 2.0,
        "eps": 1e-6,
        "eps_root": 1e-7,
        "weight_decay": 0.01,
        "warmup_steps": 0,
    },
    source="Pagliardini, Ablin & Grangier (2025)",
    variants=({"warmup_steps": 30},),
    needs=frozenset({"params"}),
    usual_rate=0.002,
)
