"""Momentum: steps along a moving average of the gradients.

    v ← b v + (1 − d) g
    w ← w − α v                          or, by Nesterov,   w ← w − α (b v + (1 − d) g)

The dampening d is b by default, so v is an average, and α means the same with and
without momentum. d = 0 is the undamped form of PyTorch and Optax, with steps that are
1/(1 − b) times as long.

Source: Polyak (1964), "Some methods of speeding up the convergence of iteration
methods"; Nesterov (1983); Sutskever et al. (2013), "On the importance of initialization
and momentum in deep learning", ICML. PyTorch does not dampen the first gradient; here
it is dampened.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate
from adaptax._core.guards import guarded
from adaptax._core.leaves import times
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


class MomentumState(NamedTuple):
    """`velocity` is v: shaped like the parameters, in the accumulator's dtype."""

    velocity: optax.Updates


@translating
def scale_by_momentum(
    b: Scalar = 0.9,
    *,
    dampening: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Replace each gradient by the moving average of the gradients so far.

    Args:
        b: Momentum, 0 <= b < 1.
        dampening: d <= 1. `None`: b, the exponential average. 0: the undamped sum.
        nesterov: Look one step ahead. Structural.
        accumulator_dtype: The dtype of v; by default that of the parameters, or float32
            for half precision.
    """
    checks.averaging_factor("b", b)
    dampening = b if dampening is None else dampening
    checks.number("dampening", dampening, at_most=1)

    def rule(g, v, b, dampening):
        scaled = (1 - dampening) * g
        v = b * v + scaled
        return b * v + scaled if nesterov else v, v

    def init(params):
        return MomentumState(accumulators(params, dtype=accumulator_dtype))

    def update(updates, state, params=None):
        del params
        updates, velocity = by_coordinate(
            rule, updates, state.velocity, b=b, dampening=dampening
        )
        return updates, MomentumState(velocity)

    def converted(theirs):  # an undamped sum
        weight = 1 - jnp.asarray(dampening)
        return MomentumState(jax.tree.map(lambda v: times(v, weight), theirs.trace))

    conversions = {"TraceState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def momentum(
    learning_rate: LearningRate,
    b: Scalar = 0.9,
    *,
    dampening: Scalar | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Momentum, ready to use; see `scale_by_momentum` for the other arguments.

    Steps follow an average: at the same rate they are 1 − b times as long as those of
    `optax.sgd(learning_rate, b)`, PyTorch and Keras, a tenth for b = 0.9. For their
    steps, use `dampening=0`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes.
    """
    direction = scale_by_momentum(
        b, dampening=dampening, nesterov=nesterov, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.1, "b": 0.8},
    source="Polyak (1964)",
    variants=({"dampening": 0.0}, {"nesterov": True}),
    usual_rate=0.1,
)
