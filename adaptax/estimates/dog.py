"""DoG: distance over gradients, a step size without tuning.

    r̄_t = max(r̄_{t−1}, ‖w_t − w_0‖),   r̄_0 = r_ε (1 + ‖w_0‖)
    G_t = G_{t−1} + ‖u_t‖²
    η_t = r̄_t / √(G_t + ε)

The rate grows with the distance covered and shrinks with the sum of the updates, which
makes it optimal up to a logarithm. u are the updates that reach it, which move the
parameters: the gradient after gradient descent, or any other direction. The step size
is not meant to decay: evaluate with the averaged parameters (`iterate_average`).
`l_dog` does the same in each leaf separately.

Source: Ivgi, Hinder & Carmon (2023), "DoG is SGD's Best Friend: A Parameter-Free
Dynamic Step Size Schedule", ICML (arXiv 2302.12022). `optax.contrib.dog` keeps its sums
in the parameters' dtype, where in bfloat16 they stop at 256.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.estimating import estimate, finite
from adaptax._core.leaves import global_norm
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.words import translating


class DogState(NamedTuple):
    """The state of `dog`.

    `learning_rate` is η, the rate applied, initially 0. `distance` is r̄ and `sum_sq` G.
    `start` is w_0, a copy of the parameters in their own dtypes. `step` counts the
    updates, from 0, and `skipped` those that were not finite.
    """

    learning_rate: jax.Array
    distance: jax.Array
    sum_sq: jax.Array
    step: jax.Array
    skipped: jax.Array
    start: optax.Params

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def dog(
    *, reps_rel: Scalar = 1e-6, eps: Scalar = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Use the distance covered over the root of the summed squares as the rate.

    The default first distance is that of `optax.contrib.dog`, its "heuristic" of 1e-6.

    Args:
        reps_rel: r_ε > 0, the relative first distance: small enough that the first step
            does no harm. The authors recommend 1e-4 with batch normalization.
        eps: ε >= 0. With 0, the rate is 0 until there is a gradient.

    Raises:
        ValueError: At `update`, if `params` is missing.

    >>> import adaptax
    >>> optimizer = adaptax.gradient_descent(dog(reps_rel=0.1, eps=0.0))
    >>> update, state = optimizer.update(5.0, optimizer.init(1.0), 1.0)
    >>> float(update)
    -0.2
    """
    check(reps_rel, eps)

    def init(params):
        return DogState(
            *(real(0.0) for _ in range(3)),
            step=counters.zero(),
            skipped=counters.zero(),
            start=snapshots.empty(params),
        )

    def advance(state, updates, params, **extra_args):
        del extra_args
        start, distance = distance_covered(state, params, reps_rel)
        sum_sq = state.sum_sq + global_norm(updates, computed=True) ** 2
        rate = divide(distance, root(sum_sq + real(eps)))
        step = counters.increment(state.step)
        after = DogState(rate, distance, sum_sq, step, state.skipped, start)
        return after, finite(distance, sum_sq)

    return estimate("dog", init, advance)


def distance_covered(state: Any, params: Any, reps_rel: Any) -> tuple[Any, jax.Array]:
    """Return w_0 and r̄ for a state with `step`, `start` and `distance`."""
    return snapshots.measured(
        state.step == 0,
        params,
        state.start,
        state.distance,
        real(reps_rel),
        at_first=guess,
        later=farther,
    )


def guess(params: Any, distance: Any, reps_rel: Any) -> jax.Array:
    """Return the first distance, r̄_0."""
    del distance
    return reps_rel * (1 + global_norm(params))


def farther(moves: Any, distance: jax.Array, reps_rel: Any) -> jax.Array:
    """Return the larger of the distance so far and the norm of the moves."""
    del reps_rel
    return jnp.maximum(distance, global_norm(moves))


def check(reps_rel: Scalar, eps: Scalar) -> None:
    """Refuse arguments out of range."""
    checks.number("reps_rel", reps_rel, above=0)
    checks.number("eps", eps, at_least=0)


METHOD = Method(
    {"reps_rel": 0.02, "eps": 1e-3},
    source="Ivgi, Hinder & Carmon (2023)",
    needs=frozenset({"params"}),
)
