"""D-Adaptation: the lower bound on the distance to the solution, which sets the rate.

    r ← √β₂ r + (1 − √β₂) γ ⟨u, s⟩         (s of the previous step)
    s ← √β₂ s + (1 − √β₂) γ u
    d̂ = r / ((1 − √β₂) ‖s‖₁),   d ← max(d, min(d̂, G d))

γ is the rate and u the direction of a step. It is shared by `dadapt_adam` and
`dadapt_lion`, and in part by `dadapt_sgd`, where neither sum decays.

Source: Defazio & Mishchenko (2023), "Learning-Rate-Free Learning by D-Adaptation", ICML
(arXiv 2301.07733).
"""

from typing import Any, NamedTuple

import jax
import optax

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import divide
from adaptax._core.global_guard import grown, new_if_finite
from adaptax._core.leaves import absolute_sum
from adaptax._core.scalars import precise


class Bound(NamedTuple):
    """The scalars of a method's state that its next rate depends on.

    `learning_rate` is d of the last step, times a factor of the method. `distance` is d
    of the next step, `numerator` r and `denominator` ‖s‖₁.
    """

    learning_rate: jax.Array
    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array


def require_distance(d0: Scalar, growth: Scalar | None) -> None:
    """Check the first bound on the distance, and the largest growth of a step."""
    checks.number("d0", d0, above=0)
    if growth is not None:
        checks.number("growth", growth, at_least=1)


def sum_weight(b2: Scalar) -> jax.Array:
    """Return 1 − √β₂, rounded once."""
    return precise(lambda xp, b2: 1 - xp.sqrt(b2), b2)


def next_bound(
    state: Any,
    counts: jax.Array,
    factor: jax.Array,
    gained: jax.Array,
    sums: optax.Updates,
    weight: jax.Array,
    growth: Scalar | None,
) -> Bound:
    """Return the bound after a step.

    Args:
        state: The state of the method before it, with the fields of `Bound`.
        counts: Whether the step counts; otherwise nothing changes.
        factor: The rate of this step, before its schedule.
        gained: γ ⟨u, s⟩.
        sums: s, after the step.
        weight: 1 − √β₂.
        growth: G, or `None` for no cap.
    """
    numerator = state.numerator + weight * (gained - state.numerator)
    denominator = absolute_sum(sums)
    estimate = divide(numerator, weight * denominator)
    distance = grown(state.distance, estimate, growth)
    old = [getattr(state, name) for name in Bound._fields]
    new = factor, distance, numerator, denominator
    return Bound(*new_if_finite(counts, new, old))
