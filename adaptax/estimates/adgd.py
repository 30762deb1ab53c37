"""AdGD: adaptive gradient descent, with a rate from the local curvature.

    L_t = ‖g_t − g_{t−1}‖ / ‖w_t − w_{t−1}‖
    λ_t = min{√(1 + θ_{t−1}) λ_{t−1}, 1 / (2 L_t)},   θ_0 = 10⁹
    tight:    λ_t = min{√(1 + θ_{t−1}) λ_{t−1},
                        ‖w_t − w_{t−1}‖ / √[3 ‖g_t‖² − 4 ⟨g_t, g_{t−1}⟩]₊}
    θ_t = λ_t / λ_{t−1}

Two rules: do not raise the rate too fast, and do not overstep the curvature. They are
proven for full gradients. Stochastic gradients of two batches differ by their noise as
well, which looks like curvature and makes the steps small.

Source: Malitsky & Mishchenko (2020), "Adaptive Gradient Descent without Descent", ICML
(arXiv 1910.09529), Alg. 1. Optax has no such method; `adgd2` takes longer steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, remember, root
from adaptax._core.estimating import estimate, finite
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating


class AdgdState(NamedTuple):
    """The state of `adgd`, and of `adgd2` as `Adgd2State`.

    `learning_rate` is λ, the last rate applied, initially the first, and `growth` is θ.
    `params` and `gradients` are those of the previous step, in their own dtypes and in
    float32 at least. `step` counts the updates, from 0, and `skipped` those that were
    not finite.
    """

    learning_rate: jax.Array
    growth: jax.Array
    step: jax.Array
    skipped: jax.Array
    params: optax.Params
    gradients: optax.Updates

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def adgd(
    initial: Scalar = 1e-6, *, tight: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Use half the inverse of the local curvature as the rate.

    It treats the updates that reach it as the gradient, so put it directly after
    `scale_by_gradient_descent`. If the parameters did not move, the rate stays.

    Args:
        initial: λ_0 > 0, the rate of the first step. It should be small; only its order
            of magnitude matters, since the second rate may be 30 000 times as large.
        tight: Use the second bound above, which gives longer steps. It assumes that
            only −λ g moves the parameters. Structural.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> optimizer = adaptax.gradient_descent(adgd(initial=0.5))
    >>> w, state = 1.0, optimizer.init(1.0)
    >>> for _ in range(2):
    ...     update, state = optimizer.update(4 * w, state, w)
    ...     w = w + update
    >>> float(adaptax.learning_rate(state))
    0.125
    """

    def bound(state, updates, moved, changed):
        if not tight:
            return ratio(moved, 2 * changed)
        square = 3 * global_norm(updates) ** 2
        square -= 4 * inner_product(updates, state.gradients)
        return ratio(moved, root(square))

    return follow_curvature("adgd", AdgdState, initial, 1e9, 1.0, bound)


def follow_curvature(
    who: str,
    kind: type[AdgdState],
    initial: Scalar,
    first_growth: float,
    slack: float,
    bound: Callable[..., jax.Array],
) -> optax.GradientTransformationExtraArgs:
    """Make an estimate whose second rule is `bound(state, updates, ‖Δw‖, ‖Δg‖)`."""
    checks.number("initial", initial, above=0)

    def init(params):
        return kind(
            learning_rate=real(initial),
            growth=real(first_growth),
            step=counters.zero(),
            skipped=counters.zero(),
            params=snapshots.empty(params),
            gradients=accumulators(params),
        )

    def advance(state, updates, params, **extra_args):
        del extra_args
        before, growth = state.learning_rate, state.growth
        moved = global_norm(snapshots.difference(params, state.params))
        changed = global_norm(snapshots.difference(updates, state.gradients))
        grown = jnp.sqrt(real(slack) + growth) * before
        rate = jnp.minimum(grown, bound(state, updates, moved, changed))
        usable = (state.step > 0) & (moved > 0) & (rate > 0) & jnp.isfinite(rate)
        rate = jnp.where(usable, rate, before)
        after = kind(
            learning_rate=rate,
            growth=jnp.where(usable, rate / before, growth),
            step=counters.increment(state.step),
            skipped=state.skipped,
            params=snapshots.taken(params, state.params),
            gradients=remember(state.gradients, updates),
        )
        return after, finite(moved, changed, global_norm(updates))

    return estimate(who, init, advance)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Divide; the result is infinite where the denominator is 0."""
    zero = denominator == 0
    return jnp.where(zero, jnp.inf, numerator / jnp.where(zero, 1, denominator))


METHOD = Method(
    {"initial": 0.3},
    source="Malitsky & Mishchenko (2020)",
    variants=({"tight": True},),
    needs=frozenset({"params"}),
    differs="Optax has no AdGD.",
)
