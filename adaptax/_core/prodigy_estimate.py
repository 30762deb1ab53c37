"""Prodigy's estimate d of the distance from the first parameters to the solution.

    r ← β₃ r + (d/d₀) γ ⟨g, x₀ − x⟩
    s ← β₃ s + (d/d₀) γ g                          (safeguarded: d instead of γ)
    d̂ = κ r / ‖s‖₁
    d ← max(d, min(d̂, G d))

γ is the rate of a step: d times what the method multiplies it by. A step of rate 0, or
one before the first gradient that is not 0, does not count. See
`adaptax.optimizers.prodigy` for the source.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from adaptax._core import checks, snapshots
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, by_coordinate, divide
from adaptax._core.global_guard import grown, new_if_finite
from adaptax._core.leaves import (
    absolute_sum,
    inner_product,
    is_placeholder,
    is_trained,
)
from adaptax._core.meshes import by_compiler
from adaptax._core.scalars import at_step, precise, real

Growth: TypeAlias = Scalar | Callable[[jax.Array], Any] | None
"""A number, a function `step -> G` from step 0 on, or `None` for no cap."""


class Estimate(NamedTuple):
    """The fields of a state that estimates the distance.

    `distance` is d of the next step, `numerator` r and `denominator` ‖s‖₁. `sums` is s
    and `origin` x₀, shaped like the parameters, or sliced; x₀ has their own dtypes.
    """

    distance: jax.Array
    numerator: jax.Array
    denominator: jax.Array
    sums: optax.Updates
    origin: optax.Params


class Estimator(NamedTuple):
    """How an estimate begins and how it advances.

    `init(params)` returns the first estimate. `advance(estimate, gradients, params,
    step=..., rate=γ, where=...)` returns whether the step counts, and the next one.
    """

    init: Callable[[optax.Params], Estimate]
    advance: Callable[..., tuple[jax.Array, Estimate]]


def estimator(
    sum_weight: Callable[[], jax.Array],
    *,
    d0: Scalar,
    d_coef: Scalar,
    growth: Growth,
    freeze_after: int | jax.Array | None,
    safeguard_warmup: bool,
    slice_p: int,
    accumulator_dtype: Any,
) -> Estimator:
    """Check the arguments of the estimate, and return its functions.

    Args:
        sum_weight: Returns 1 − β₃; see `sum_weight`.
        d0: See `adaptax.prodigy`, as for all others.
        d_coef: κ.
        growth: G.
        freeze_after: The last step at which d may change.
        safeguard_warmup: Whether s is weighted by d, not γ.
        slice_p: Every how many entries of a leaf there is one in s and x₀.
        accumulator_dtype: Of s.
    """
    checks.number("d0", d0, above=0)
    checks.number("d_coef", d_coef, above=0)
    if growth is not None and not callable(growth):
        kind = "a number or a function of the step"
        checks.number("growth", growth, at_least=1, kind=kind)
    if freeze_after is not None:
        checks.count("freeze_after", freeze_after)
    checks.length("slice_p", slice_p)

    def init(params):
        return Estimate(
            distance=real(d0),
            numerator=real(0.0),
            denominator=real(0.0),
            sums=_sliced(accumulators(params, dtype=accumulator_dtype), slice_p),
            origin=_sliced(snapshots.empty(params), slice_p),
        )

    def advance(old, gradients, params, *, step, rate, where):
        gradients, scale = _sliced(gradients, slice_p), old.distance / real(d0)
        _, sums = by_coordinate(
            _add_up,
            gradients,
            old.sums,
            where=where,
            sum_weight=sum_weight(),
            weight=scale * (old.distance if safeguard_warmup else rate),
        )
        origin, gained = snapshots.measured(
            step == 0,
            _sliced(params, slice_p),
            old.origin,
            gradients,
            at_first=_nothing,
            later=_gained,
        )
        gained *= scale * rate
        numerator = old.numerator + gained - sum_weight() * old.numerator
        denominator = absolute_sum(sums)
        counts = where & (denominator > 0) & jnp.isfinite(numerator)
        estimate = real(d_coef) * divide(numerator, denominator)
        distance = grown(old.distance, estimate, _cap(growth, step))
        if freeze_after is not None:
            frozen = step >= jnp.asarray(freeze_after).astype(jnp.int32)
            distance = jnp.where(frozen, old.distance, distance)
        distance, numerator, denominator = new_if_finite(
            counts, (distance, numerator, denominator), old[:3]
        )
        return counts, Estimate(distance, numerator, denominator, sums, origin)

    return Estimator(init, advance)


def estimate_in(state: Any) -> Estimate:
    """Return the fields of a state that are its estimate."""
    return Estimate(*(getattr(state, field) for field in Estimate._fields))


def sum_weight(b3: Scalar | None, b2: Scalar = 0.0) -> Callable[[], jax.Array]:
    """Return a function that computes 1 − β₃, rounded once, with √β₂ for `None`."""
    if b3 is None:
        return lambda: precise(lambda xp, b2: 1 - xp.sqrt(b2), b2)
    checks.number("b3", b3, at_least=0, below=1)
    return lambda: precise(lambda xp, b3: 1 - b3, b3)


def _cap(growth: Growth, step: jax.Array) -> Any:
    """Return G at a step: 1 where a function's value is not a number."""
    if not callable(growth):
        return growth
    cap = at_step("growth", growth, step)
    return jnp.where(jnp.isnan(cap), 1, cap)


def _add_up(g, sums, sum_weight, weight):
    return g, sums + weight * g - sum_weight * sums


def _nothing(params, gradients) -> jax.Array:
    del params, gradients
    return real(0.0)


def _gained(moves, gradients) -> jax.Array:
    return -inner_product(gradients, moves)


def _sliced(tree: Any, every: int) -> Any:
    """Return trained leaves flattened, with every n-th element; all as is for n = 1."""
    if every == 1:
        return tree

    def leaf(array):
        if not is_trained(array):
            return array
        return by_compiler(
            lambda array: jnp.reshape(array, -1)[::every],
            jnp.asarray(array),
            out=lambda spec: PartitionSpec(None),
        )

    return jax.tree.map(leaf, tree, is_leaf=is_placeholder)
