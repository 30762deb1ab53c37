"""D-Adaptation for gradient descent: dual averaging whose rate follows the distance.

    γ = α d / ‖g₀‖
    r ← r + γ ⟨g, s⟩                       (s of the previous step)
    s ← s + γ g
    x ← x + (1 − β) (x₀ − s − x)
    d̂ = 2 r / ‖s‖,   d ← max(d, min(d̂, G d))

g₀ is the first gradient that is not 0. Without momentum, β = 0, it is gradient descent
from x₀ at the rate γ. d starts below the distance from x₀ to the solution and grows
towards it; it never shrinks.

Source: Defazio & Mishchenko (2023), "Learning-Rate-Free Learning by D-Adaptation", ICML
(arXiv 2301.07733), its SGD version, as in the third version of the authors' code,
dadaptation 3.2, where a zero first gradient or one NaN stops all training. For weight
decay, put `optax.add_decayed_weights` before it in the chain, as the authors do.

As in the authors' code, a step with α = 0 does not count.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate, divide
from adaptax._core.global_guard import grown, has_begun, is_usable, new_if_finite
from adaptax._core.guards import guarded
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.methods import Method
from adaptax._core.rates import LearningRate, seat
from adaptax._core.scalars import precise, real
from adaptax._core.words import translating
from adaptax.optimizers.d_adaptation import require_distance


class DAdaptSgdState(NamedTuple):
    """The state of `dadapt_sgd`.

    `step` counts the steps taken and `skipped` the gradients that were not finite.
    `learning_rate` is d / ‖g₀‖ of the last step, initially 0, and `rate` the state of
    its factor α. `distance` is d of the next step, `numerator` r, `denominator` ‖s‖ and
    `first_norm` ‖g₀‖. `sums` is s, and `origin` x₀ in the parameters' own dtypes.
    """

    step: jax.Array
    skipped: jax.Array
    learning_rate: jax.Array
    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array
    first_norm: jax.Array
    sums: optax.Updates
    origin: optax.Params
    rate: Any


@translating
def dadapt_sgd(
    learning_rate: LearningRate = 1.0,
    b: Scalar = 0.0,
    *,
    d0: Scalar = 1e-6,
    growth: Scalar | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent at a rate that it infers; needs `params`.

    Args:
        learning_rate: α, anything that `adaptax.descend` takes, without a unit: 1, or a
            schedule whose peak is 1.
        b: β, the momentum, 0 <= β < 1.
        d0: d₀ > 0, the initial d, in the parameters' unit. It should be far below the
            true distance.
        growth: G >= 1, the largest factor by which d grows in a step, such as 1.02,
            which acts as a warm-up; `None` for no cap. Whether it is `None` is
            structural.
        accumulator_dtype: The dtype of s; by default that of the parameters, or float32
            for half precision.

    Raises:
        ValueError: At `update`, if `params` is missing.

    A gradient that is not finite, or of norm 1e15 or more, is skipped and counted.
    Nothing moves before the first gradient that is not 0.
    """
    checks.number("b", b, at_least=0, below=1)
    require_distance(d0, growth)
    base_rate = seat(learning_rate)

    def init(params):
        return DAdaptSgdState(
            step=counters.zero(),
            skipped=counters.zero(),
            learning_rate=real(0.0),
            distance=real(d0),
            numerator=real(0.0),
            denominator=real(0.0),
            first_norm=real(0.0),
            sums=accumulators(params, dtype=accumulator_dtype),
            origin=snapshots.empty(params),
            rate=base_rate.init(),
        )

    def update(updates, state, params=None, **extra_args):
        params = checks.required_params(params, "dadapt_sgd")
        alpha, rate = base_rate.read(state.rate, **extra_args)
        usable = is_usable(updates)
        counts = usable & (alpha > 0) & has_begun(updates, state.first_norm)
        first = state.step == 0
        origin = snapshots.take(first, params, state.origin)
        norm = global_norm(snapshots.zeros_unless(usable, updates))
        first_norm = jnp.where(first, norm, state.first_norm)
        factor = divide(state.distance, first_norm)
        new_updates, sums = by_coordinate(
            _move,
            updates,
            state.sums,
            reads=(origin, params),
            where=counts,
            rate=factor * alpha,
            part=precise(lambda xp, b: 1 - b, b),
        )
        gained = factor * alpha * inner_product(updates, state.sums)
        numerator, denominator = state.numerator + gained, global_norm(sums)
        estimate = 2 * divide(numerator, denominator)
        distance = grown(state.distance, estimate, growth)
        factor, distance, numerator, denominator, first_norm = new_if_finite(
            counts,
            (factor, distance, numerator, denominator, first_norm),
            state[2:7],
        )
        return new_updates, DAdaptSgdState(
            step=counters.increment(state.step, where=counts),
            skipped=counters.increment(state.skipped, where=~usable),
            learning_rate=factor,
            distance=distance,
            numerator=numerator,
            denominator=denominator,
            first_norm=first_norm,
            sums=sums,
            origin=origin,
            rate=rate,
        )

    return guarded(optax.GradientTransformationExtraArgs(init, update), whole=True)


def _move(g, sums, origin, w, rate, part):
    sums = sums + rate * g
    return part * ((origin - w) - sums), sums


METHOD = Method(
    {"learning_rate": 0.8, "b": 0.5, "d0": 0.01},
    source="Defazio & Mishchenko (2023)",
    variants=({"growth": 1.02},),
    needs=frozenset({"params"}),
    differs="Optax has no D-Adaptation of gradient descent.",
    usual_rate=1.0,
    rate="inferred",
)
