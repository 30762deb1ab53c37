"""AdaGrad: per-coordinate steps that shrink with the gradients seen so far.

    G ← G + g²
    w ← w − α g / (√(G + ε₀) + ε)

Source: Duchi, Hazan & Singer (2011), "Adaptive Subgradient Methods for Online Learning
and Stochastic Optimization", JMLR 12. `optax.adagrad` starts G at 0.1; here it is 0.
PyTorch has its ε outside the root: eps=1e-10, eps_root=0.
"""

from typing import Any, NamedTuple

import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import by_coordinate, divide, magnitudes, root
from adaptax._core.guards import guarded
from adaptax._core.leaves import abs_sq
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, descend
from adaptax._core.words import translating


class AdagradState(NamedTuple):
    """`sum_sq` is G: shaped like the parameters, in the accumulator's dtype."""

    sum_sq: optax.Updates


@translating
def scale_by_adagrad(
    initial_sum: Scalar = 0.0,
    *,
    eps: Scalar = 0.0,
    eps_root: Scalar = 1e-8,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    """Divide each gradient by the root of its summed squares.

    Args:
        initial_sum: G₀ >= 0. A positive value shortens the first steps.
        eps: ε >= 0, added outside the root.
        eps_root: ε₀ >= 0, added inside the root. Where the divisor is 0, so is the
            update.
        accumulator_dtype: The dtype of G; by default that of the parameters, or float32
            for half precision.
    """
    checks.number("initial_sum", initial_sum, at_least=0)
    checks.number("eps", eps, at_least=0)
    checks.number("eps_root", eps_root, at_least=0)

    def rule(g, sum_sq, eps, eps_root):
        sum_sq = sum_sq + abs_sq(g)
        return divide(g, root(sum_sq + eps_root) + eps), sum_sq

    def init(params):
        return AdagradState(magnitudes(params, initial_sum, accumulator_dtype))

    def update(updates, state, params=None):
        del params
        updates, sum_sq = by_coordinate(
            rule, updates, state.sum_sq, eps=eps, eps_root=eps_root
        )
        return updates, AdagradState(sum_sq)

    def converted(theirs):
        return AdagradState(theirs.sum_of_squares)

    conversions = {"ScaleByRssState": converted}
    return guarded(optax.GradientTransformation(init, update), conversions=conversions)


@translating
def adagrad(
    learning_rate: LearningRate,
    initial_sum: Scalar = 0.0,
    *,
    eps: Scalar = 0.0,
    eps_root: Scalar = 1e-8,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """AdaGrad, ready to use; see `scale_by_adagrad` for the other arguments.

    The sum of squares starts at 0, with 1e-8 inside the root. `optax.adagrad` and Keras
    start at 0.1, with 1e-7; PyTorch has 1e-10 outside the root.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, in the parameters'
            unit.
    """
    direction = scale_by_adagrad(
        initial_sum, eps=eps, eps_root=eps_root, accumulator_dtype=accumulator_dtype
    )
    return optax.chain(direction, descend(learning_rate))


METHOD = Method(
    {"learning_rate": 0.5, "initial_sum": 0.1, "eps": 1e-6, "eps_root": 1e-7},
    source="Duchi, Hazan & Singer (2011)",
    differs="optax.adagrad has no ε outside the root.",
    usual_rate=0.01,
)
