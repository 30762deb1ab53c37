"""DoWG: distance over weighted gradients.

    r̄_t = max(r̄_{t−1}, ‖w_t − w_0‖),   r̄_0 = r_ε (1 + ‖w_0‖)
    v_t = v_{t−1} + r̄_t² ‖u_t‖²
    η_t = r̄_t² / √v_t

In contrast to DoG, each squared update is weighted by the squared distance covered so
far. So the small first steps weigh little, and later rates are larger.

Source: Khaled, Mishchenko & Jin (2023), "DoWG Unleashed: An Efficient Universal
Parameter-Free Gradient Descent Method", NeurIPS (arXiv 2305.16284), where r̄_0 is an
absolute distance; here it is relative to w_0, as in DoG. `optax.contrib.dowg` adds an ε
to √v.
"""

from typing import NamedTuple

import jax
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.estimating import estimate, finite
from adaptax._core.leaves import global_norm
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating
from adaptax.estimates.dog import distance_covered


class DowgState(NamedTuple):
    """The state of `dowg`.

    `learning_rate` is η, the rate applied, initially 0. `distance` is r̄ and
    `weighted_sum` v. `start` is w_0, a copy of the parameters in their own dtypes.
    `step` counts the updates, from 0, and `skipped` those that were not finite.
    """

    learning_rate: jax.Array
    distance: jax.Array
    weighted_sum: jax.Array
    step: jax.Array
    skipped: jax.Array
    start: optax.Params

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def dowg(*, reps_rel: Scalar = 1e-6) -> optax.GradientTransformationExtraArgs:
    """Use the squared distance over the root of the weighted squares as the rate.

    The first distance is relative to the parameters, as in DoG, and the root has no ε;
    in `optax.contrib.dowg` it is absolute, and ε is 1e-4. The rate is 0 before the
    first gradient that is not 0.

    Args:
        reps_rel: r_ε > 0, the relative first distance: small enough that the first step
            does no harm.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> optimizer = adaptax.gradient_descent(dowg(reps_rel=0.1))
    >>> update, state = optimizer.update(5.0, optimizer.init(1.0), 1.0)
    >>> float(update)
    -0.2
    """
    checks.number("reps_rel", reps_rel, above=0)

    def init(params):
        return DowgState(
            *(real(0.0) for _ in range(3)),
            step=counters.zero(),
            skipped=counters.zero(),
            start=snapshots.empty(params),
        )

    def advance(state, updates, params, **extra_args):
        del extra_args
        start, distance = distance_covered(state, params, reps_rel)
        weighted_sum = (
            state.weighted_sum + (distance * global_norm(updates, computed=True)) ** 2
        )
        rate = distance * divide(distance, root(weighted_sum))
        step = counters.increment(state.step)
        after = DowgState(rate, distance, weighted_sum, step, state.skipped, start)
        return after, finite(rate, weighted_sum)

    return estimate("dowg", init, advance)


METHOD = Method(
    {"reps_rel": 0.02},
    source="Khaled, Mishchenko & Jin (2023)",
    needs=frozenset({"params"}),
    differs="optax.contrib.dowg adds an ε to the root.",
)
