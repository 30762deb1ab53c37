"""RMSprop: steps divided by a moving root mean square of the gradients.

    s ← ρ s + (1 − ρ) g²
    m ← β m + (1 − β) g            (m = g without momentum)
    w ← w − α m / (√(s + ε₀) + ε)

If centered, s is replaced by s − ḡ², with ḡ ← ρ ḡ + (1 − ρ) g. If debiased, s, m and ḡ
are divided by 1 − ρᵗ, 1 − βᵗ and 1 − ρᵗ; with β = ρ that is Adam with b1 = b2 = ρ.

Source: Tieleman & Hinton (2012), Coursera lecture 6.5; Graves (2013), "Generating
Sequences With Recurrent Neural Networks", eq. 38-45 (centered). Optax and PyTorch apply
an undamped momentum after the division: for that, chain `scale_by_rmsprop()` with
`scale_by_momentum(dampening=0)`. PyTorch has its ε outside the root.
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


class RmspropState(NamedTuple):
    """`mean_sq` is s, `velocity` m and `mean` ḡ (`()` where not used).

    All are shaped like the parameters, in the accumulator's dtype, and bias-corrected
    if `debias` is set; `step` counts the updates, from 0.
    """

    step: jax.Array
    mean_sq: optax.Updates
    velocity: optax.Updates
    mean: optax.Updates


@translating
def scale_by_rmsprop(
    decay: Scalar = 0.9,
    *,
    momentum: Scalar | None = None,
    centered: bool = False,
    debias: bool = False,
    eps: Scalar | None = None,
    eps_root: Scalar | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide each gradient, or its average, by its moving root mean square.

    Args:
        decay: ρ, 0 <= ρ < 1.
        momentum: β, 0 <= β < 1; `None` for none, without an average in the state.
        centered: Divide by the standard deviation instead. Structural.
        debias: Correct the bias of the averages. Structural.
        eps: ε >= 0, added outside the root; by default 0.
        eps_root: ε₀ >= 0, added inside the root; by default 1e-8, or 0 if `eps` is
            given. Where the divisor is 0, so is the update.
        accumulator_dtype: The dtype of the averages; by default that of the parameters,
            or float32 for half precision.
    """
    eps_root = (1e-8 if eps is None else 0.0) if eps_root is None else eps_root
    eps = 0.0 if eps is None else eps
    checks.averaging_factor("decay", decay)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)
    if momentum is not None:
        checks.averaging_factor("momentum", momentum)

    def rule(g, mean_sq, *averages, weight, momentum_weight, eps, eps_root):
        kept = [mean_sq + weight * (abs_sq(g) - mean_sq)]
        direction, spread = g, kept[0]
        if momentum is not None:
            kept.append(averages[0] + momentum_weight * (g - averages[0]))
            direction = kept[-1]
        if centered:
            kept.append(averages[-1] + weight * (g - averages[-1]))
            spread = jnp.maximum(spread - abs_sq(kept[-1]), 0)
        return divide(direction, root(spread + eps_root) + eps), *kept

    def weight(factor, step):
        return average_weight(factor, step) if debias else 1 - factor

    def init(params):
        def zeros():
            return accumulators(params, dtype=accumulator_dtype)

        mean_sq = magnitudes(params, dtype=accumulator_dtype)
        velocity = () if momentum is None else zeros()
        mean = zeros() if centered else ()
        return RmspropState(counters.zero(), mean_sq, velocity, mean)

    def update(updates, state, params=None):
        del params
        step = counters.increment(state.step)
        kept = [state.velocity] * (momentum is not None) + [state.mean] * centered
        updates, mean_sq, *kept = by_coordinate(
            rule,
            updates,
            state.mean_sq,
            *kept,
            weight=weight(decay, step),
            momentum_weight=weight(0.0 if momentum is None else momentum, step),
            eps=eps,
            eps_root=eps_root,
        )
        velocity = () if momentum is None else kept[0]
        mean = kept[-1] if centered else ()
        return updates, RmspropState(step, mean_sq, velocity, mean)

    def converted(theirs):
        step = theirs.count if debias else counters.zero()
        averages = [theirs.nu, theirs.mu] if centered else [theirs.nu]
        if debias:
            averages = [without_bias(tree, decay, step) for tree in averages]
        return RmspropState(step, averages[0], (), averages[1] if centered else ())

    name = f"ScaleBy{'RStdDev' if centered else 'Rms'}{'WithCount' * debias}State"
    conversions = {name: converted} if momentum is None else {}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def rmsprop(
    learning_rate: LearningRate,
    decay: Scalar = 0.9,
    *,
    momentum: Scalar | None = None,
    centered: bool = False,
    debias: bool = False,
    eps: Scalar | None = None,
    eps_root: Scalar | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """RMSprop, ready to use; see `scale_by_rmsprop` for the other arguments.

    The defaults are ρ = 0.9, and 1e-8 inside the root, as in Optax; Keras has 1e-7, and
    PyTorch ρ = 0.99, and 1e-8 outside. `momentum` averages the gradients before the
    division; in all three libraries it sums the quotients.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_rmsprop(
        decay,
        momentum=momentum,
        centered=centered,
        debias=debias,
        eps=eps,
        eps_root=eps_root,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.02, "decay": 0.9, "eps": 1e-8, "eps_root": 1e-8},
    source="Tieleman & Hinton (2012)",
    variants=({"momentum": 0.9, "debias": True}, {"centered": True}),
    differs="optax.rmsprop has one ε, inside or outside the root.",
    usual_rate=0.001,
)
