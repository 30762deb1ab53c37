"""Adam: an averaged gradient, divided by its root mean square.

    m ← β₁ m + (1 − β₁) g,      m̂ = m / (1 − β₁ᵗ)
    v ← β₂ v + (1 − β₂) g²,     v̂ = v / (1 − β₂ᵗ)
    w ← w − α m̂ / (√(v̂ + ε₀) + ε)

The state keeps m̂ and v̂ themselves (see `average_weight`). The steps are the same, and
stay correct when β changes during a run or rounds to 1 in bfloat16. With Nesterov
momentum, m̂ is one step ahead, β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ). With
AMSGrad, v̂ is replaced by the largest v̂ so far.

Source: Kingma & Ba (2015), "Adam: A Method for Stochastic Optimization", ICLR, Alg. 1;
Dozat (2016), "Incorporating Nesterov Momentum into Adam"; Reddi, Kale & Kumar (2018),
"On the Convergence of Adam and Beyond", ICLR. PyTorch takes the maximum before it
corrects the bias.

Two misprints are in circulation, and neither is what is computed here: a step without
the square root, w ← w − β₁/(1−β₁ᵗ)·m − β₂/(1−β₂ᵗ)·v; and a listing that sets m and v to
zero at every example, where they last for the whole training.
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
from adaptax._core.words import translating


class AdamState(NamedTuple):
    """`mean` is m̂, `mean_sq` v̂ and `max_sq` the largest v̂ (`()` without AMSGrad).

    All are shaped like the parameters, in the accumulator's dtype; `step` counts the
    updates, from 0.
    """

    step: jax.Array
    mean: optax.Updates
    mean_sq: optax.Updates
    max_sq: optax.Updates


@translating
def scale_by_adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    nesterov: bool = False,
    amsgrad: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide the averaged gradient by its root mean square.

    Args:
        b1: β₁, the averaging factor of the gradient, 0 <= β₁ < 1.
        b2: β₂, the averaging factor of its square, 0 <= β₂ < 1.
        eps: ε >= 0, added outside the root.
        eps_root: ε₀ >= 0, added inside the root. Where the divisor is 0, so is the
            update.
        nesterov: Look one step ahead. Structural.
        amsgrad: Divide by the largest mean square so far. Structural.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)

    def rule(g, mean, mean_sq, *max_sq, w1, w2, ahead, eps, eps_root):
        mean = mean + w1 * (g - mean)
        mean_sq = mean_sq + w2 * (abs_sq(g) - mean_sq)
        max_sq = [jnp.maximum(top, mean_sq) for top in max_sq]
        direction = ahead * mean + w1 * g if nesterov else mean
        divisor = root((*max_sq, mean_sq)[0] + eps_root) + eps
        return divide(direction, divisor), mean, mean_sq, *max_sq

    def init(params):
        def squares():
            return magnitudes(params, dtype=accumulator_dtype)

        mean = accumulators(params, dtype=accumulator_dtype)
        max_sq = squares() if amsgrad else ()
        return AdamState(counters.zero(), mean, squares(), max_sq)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        w1, next_w1 = average_weight(b1, step), average_weight(b1, step + 1)
        updates, mean, mean_sq, *max_sq = by_coordinate(
            rule,
            updates,
            state.mean,
            state.mean_sq,
            *([state.max_sq] * amsgrad),
            w1=w1,
            w2=average_weight(b2, step),
            ahead=jnp.asarray(b1).astype(w1.dtype) * next_w1 / w1,
            eps=eps,
            eps_root=eps_root,
        )
        return updates, AdamState(step, mean, mean_sq, max_sq[0] if amsgrad else ())

    def converted(theirs):
        mean = without_bias(theirs.mu, b1, theirs.count)
        mean_sq = without_bias(theirs.nu, b2, theirs.count)
        return AdamState(theirs.count, mean, mean_sq, ())

    conversions = {} if amsgrad else {"ScaleByAdamState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def adam(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    *,
    nesterov: bool = False,
    amsgrad: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Adam, ready to use; see `scale_by_adam` for the other arguments.

    The defaults are those of Optax and PyTorch; Keras has eps=1e-7. `amsgrad` uses the
    largest of the bias-corrected averages, as Optax does; PyTorch corrects the largest
    average.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adam(
        b1,
        b2,
        eps,
        eps_root,
        nesterov=nesterov,
        amsgrad=amsgrad,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.1, "b1": 0.8, "b2": 0.99, "eps": 1e-6, "eps_root": 1e-7},
    source="Kingma & Ba (2015)",
    variants=({"nesterov": True}, {"amsgrad": True}),
    usual_rate=0.002,
)
