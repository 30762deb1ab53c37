"""Lion: the sign of an interpolated momentum.

    u = sign(β₁ m + (1 − β₁) g)
    m ← β₂ m + (1 − β₂) g
    w ← w − α (u + λ w)

Source: Chen et al. (2023), "Symbolic Discovery of Optimization Algorithms", NeurIPS,
Alg. 2. Every step has the size α in every coordinate, so α should be 3 to 10 times
smaller than for AdamW, and λ larger by the same factor. λ is 1e-3 by default, as in
Optax.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate, unit
from adaptax._core.fusion import once
from adaptax._core.guards import guarded
from adaptax._core.leaves import is_complex, is_placeholder, is_trained
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.usable_gradients import usable
from adaptax._core.weight_decay import Mask, WeightDecay, with_weight_decay
from adaptax._core.words import translating


class LionState(NamedTuple):
    """`mean` is m: shaped like the parameters, in the accumulator's dtype."""

    mean: optax.Updates


@translating
def scale_by_lion(
    b1: Scalar = 0.9, b2: Scalar = 0.99, *, accumulator_dtype: Any = None
) -> optax.GradientTransformation:
    """Return the sign of the gradient interpolated with its average; 0 at 0.

    A coordinate whose gradient is not finite does not move.

    Args:
        b1: β₁, the weight of the average in the direction, 0 <= β₁ < 1.
        b2: β₂, the averaging factor, 0 <= β₂ < 1.
        accumulator_dtype: The dtype of m; by default that of the parameters, or float32
            for half precision.
    """
    checks.averaging_factor("b1", b1)
    checks.averaging_factor("b2", b2)

    def sign(g, mean, raw, b1):
        # Without a usable gradient the momentum shrinks, but its sign would not.
        return (jnp.where(usable(raw), unit(b1 * mean + (1 - b1) * g), 0),)

    def average(g, mean, b2):
        return g, mean + (1 - b2) * (g - mean)

    def init(params):
        return LionState(accumulators(params, dtype=accumulator_dtype))

    def update(updates, state, params=None):
        del params
        (signs,) = by_coordinate(sign, updates, reads=(state.mean, updates), b1=b1)
        # The signs are computed from the old mean, which XLA:CPU would copy before it
        # is overwritten. Storing them first, as bytes, takes a third of a step's time.
        narrow = jax.tree.map(_in_bytes, signs, state.mean, is_leaf=is_placeholder)
        narrow, mean = once((narrow, state.mean))
        _, mean = by_coordinate(average, updates, mean, b2=b2)
        updates = jax.tree.map(_widened, signs, narrow, mean, is_leaf=is_placeholder)
        return updates, LionState(mean)

    def converted(theirs):
        return LionState(theirs.mu)

    conversions = {"ScaleByLionState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def lion(
    learning_rate: LearningRate,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    *,
    weight_decay: WeightDecay = 1e-3,
    mask: Mask = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Lion with decoupled weight decay; see `scale_by_lion` for the other arguments.

    The default weight decay is 1e-3, as in Optax; Keras has none.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
        weight_decay: λ >= 0, per unit of learning rate, or a function of the step.
            Needs `params` at every update.
        mask: Leaves that decay: booleans like the parameters, or a function of them.
    """
    direction = scale_by_lion(b1, b2, accumulator_dtype=accumulator_dtype)
    return optax.chain(
        with_weight_decay(direction, weight_decay, mask), descend(learning_rate)
    )


def _in_bytes(sign, mean):
    signs = is_trained(sign) and is_trained(mean) and not is_complex(sign)
    return sign.astype(jnp.int8) if signs else sign


def _widened(sign, narrow, mean):
    return narrow.astype(sign.dtype) if is_trained(sign) and is_trained(mean) else sign


METHOD = Method(
    {"learning_rate": 0.01, "b1": 0.9, "b2": 0.99, "weight_decay": 0.01},
    source="Chen et al. (2023)",
    needs=frozenset({"params"}),
    usual_rate=0.0002,
)
