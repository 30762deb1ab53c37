"""L-DoG: distance over gradients in each leaf separately.

    r̄_t = max(r̄_{t−1}, ‖w_t − w_0‖),   r̄_0 = r_ε (1 + ‖w_0‖)
    G_t = G_{t−1} + ‖u_t‖²
    η_t = r̄_t / √(G_t + ε)

with the parameters w and the updates u of each leaf; see `dog`.

Source: Ivgi, Hinder & Carmon (2023), "DoG is SGD's Best Friend: A Parameter-Free
Dynamic Step Size Schedule", ICML (arXiv 2302.12022). Optax has no DoG by leaf.
"""

from typing import NamedTuple

import jax
import optax

from adaptax._core import counters, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide, root
from adaptax._core.estimating import estimate, finite
from adaptax._core.leaves import global_norm, is_placeholder, is_trained
from adaptax._core.methods import Method
from adaptax._core.scalars import real
from adaptax._core.scaling import scale_updates
from adaptax._core.words import translating
from adaptax.estimates.dog import check, farther, guess


class LDogState(NamedTuple):
    """The state of `l_dog`.

    `learning_rate` is ‖η u‖ / ‖u‖ over all leaves: the single rate with steps of the
    same length. `distance` and `sum_sq` have a scalar for each leaf; the other fields
    are those of `DogState`.
    """

    learning_rate: jax.Array
    distance: optax.Params
    sum_sq: optax.Params
    step: jax.Array
    skipped: jax.Array
    start: optax.Params

    def has_unit(self) -> bool:
        """Return True: a rate by itself; see `adaptax._core.seats`."""
        return True


@translating
def l_dog(
    *, reps_rel: Scalar = 1e-6, eps: Scalar = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Use a separate DoG rate in each leaf.

    Args:
        reps_rel: r_ε > 0, the relative first distance in each leaf.
        eps: ε >= 0. With 0, a leaf's rate is 0 until it has a gradient.

    Raises:
        ValueError: At `update`, if `params` is missing.
    """
    check(reps_rel, eps)

    def init(params):
        return LDogState(
            learning_rate=real(0.0),
            distance=_zeros(params),
            sum_sq=_zeros(params),
            step=counters.zero(),
            skipped=counters.zero(),
            start=snapshots.empty(params),
        )

    def advance(state, updates, params, **extra_args):
        del extra_args
        start, distance = snapshots.measured(
            state.step == 0,
            params,
            state.start,
            state.distance,
            real(reps_rel),
            at_first=_guesses,
            later=_farthest,
        )
        sum_sq = _by_leaf(
            lambda total, update: total + global_norm(update, computed=True) ** 2,
            state.sum_sq,
            updates,
        )
        after = LDogState(
            learning_rate=real(0.0),
            distance=distance,
            sum_sq=sum_sq,
            step=counters.increment(state.step),
            skipped=state.skipped,
            start=start,
        )
        ratio = divide(
            global_norm(scale(updates, after), computed=True),
            global_norm(updates, computed=True),
        )
        usable = finite(ratio, *jax.tree.leaves((distance, sum_sq)))
        return after._replace(learning_rate=ratio), usable

    def scale(updates, state):
        rates = _by_leaf(
            lambda distance, sum_sq: divide(distance, root(sum_sq + real(eps))),
            state.distance,
            state.sum_sq,
        )
        return jax.tree.map(
            lambda rate, update: (
                update if is_placeholder(rate) else scale_updates(update, rate)
            ),
            rates,
            updates,
            is_leaf=is_placeholder,
        )

    return estimate("l_dog", init, advance, scale)


def _zeros(params):
    def leaf(param):
        return real(0.0) if is_trained(param) else optax.MaskedNode()

    return jax.tree.map(leaf, params)


def _guesses(params, distances, reps_rel):
    return _by_leaf(
        lambda distance, leaf: guess(leaf, distance, reps_rel), distances, params
    )


def _farthest(moves, distances, reps_rel):
    return _by_leaf(
        lambda distance, leaf: farther(leaf, distance, reps_rel), distances, moves
    )


def _by_leaf(function, scalars, *trees):
    return jax.tree.map(
        lambda scalar, *leaves: (
            scalar if is_placeholder(scalar) else function(scalar, *leaves)
        ),
        scalars,
        *trees,
        is_leaf=is_placeholder,
    )


METHOD = Method(
    {"reps_rel": 0.02, "eps": 1e-3},
    source="Ivgi, Hinder & Carmon (2023)",
    needs=frozenset({"params"}),
    differs="Optax has no DoG by leaf.",
)
