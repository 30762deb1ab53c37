"""Gradient descent: steps along the negative gradient.

    w ← w − α g

Source: Robbins & Monro (1951), "A Stochastic Approximation Method", Ann. Math. Stat.
22. `optax.sgd` is the same; here a gradient that is not finite counts as 0.
"""

import optax

from adaptax._core.coordinates import by_coordinate
from adaptax._core.guards import guarded
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


@translating
def scale_by_gradient_descent() -> optax.GradientTransformation:
    """Return the gradient itself as the direction, with 0 where it is not finite."""

    def init(params):
        del params
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        (updates,) = by_coordinate(lambda g: (g,), updates)
        return updates, state

    return guarded(optax.GradientTransformation(init, update))


@translating
def gradient_descent(
    learning_rate: LearningRate,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent, ready to use.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in units of parameter²
            per unit of loss.
    """
    return optax.chain(scale_by_gradient_descent(), descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.1},
    source="Robbins & Monro (1951)",
    usual_rate=0.1,
)
