"""AdGD-2: AdGD with longer steps, and a rate that grows from a small first value.

    L_t = ‖g_t − g_{t−1}‖ / ‖w_t − w_{t−1}‖
    λ_t = min{√(2/3 + θ_{t−1}) λ_{t−1}, λ_{t−1} / √[2 λ_{t−1}² L_t² − 1]₊},   θ_0 = 1/3
    θ_t = λ_t / λ_{t−1}

As for `adgd`, the proof is for full gradients.

Source: Malitsky & Mishchenko (2024), "Adaptive Proximal Gradient Method for Convex
Optimization", NeurIPS (arXiv 2308.02261). Optax has no such method.
"""

import optax

from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.methods import Method
from adaptax._core.words import translating
from adaptax.estimates.adgd import AdgdState, follow_curvature, ratio


class Adgd2State(AdgdState):
    """The state of `adgd2`: the fields of `AdgdState`."""

    __slots__ = ()


@translating
def adgd2(initial: Scalar = 1e-6) -> optax.GradientTransformationExtraArgs:
    """Take longer steps than `adgd`, and raise the rate from its first value.

    It treats the updates that reach it as the gradient, so put it directly after
    `scale_by_gradient_descent`. If the parameters did not move, the rate stays.

    Args:
        initial: λ_0 > 0, the rate of the first step. The rate grows by a factor of at
            most about 1.5 per step, so a value far too small costs a few dozen steps.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """

    def bound(state, updates, moved, changed):
        del updates
        before = state.learning_rate
        product = before * divide(changed, moved)
        return ratio(before, root(2 * product**2 - 1))

    return follow_curvature("adgd2", Adgd2State, initial, 1 / 3, 2 / 3, bound)


METHOD = Method(
    {"initial": 0.3},
    source="Malitsky & Mishchenko (2024)",
    needs=frozenset({"params"}),
    differs="Optax has no AdGD.",
)
