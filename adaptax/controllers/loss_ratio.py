"""Loss ratio: a rate proportional to the gap between the loss and its lower bound.

    scale = (L − L_min) / (L₀ − L_min)      ("first": L₀ is the first loss)
    scale = 1 − L_min / L                   ("current": L is the loss itself)

both clipped to [min_scale, 1]. L is the exponential average of the losses with factor
`decay`; by default, the last loss.

Source: published as the "loss ratio" 1 − L / L_min, which is never positive for
L ≥ L_min > 0; here the fraction is inverted. With "first", the losses may be negative.
Where L ≤ L_min the scale is `min_scale`; where L₀ ≤ L_min < L it is 1.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import checks, counters, metrics
from adaptax._core.checks import Scalar, require
from adaptax._core.following import Controller, follow
from adaptax._core.methods import Method
from adaptax._core.metrics import Average, bounded
from adaptax._core.scalars import real
from adaptax._core.words import translating

Reference = Literal["first", "current"]


class LossRatioState(NamedTuple):
    """The state of `loss_ratio`.

    `learning_rate` is the scale applied, `first` is L₀ and `average` L. `floored`
    counts the losses at which the scale was `min_scale`.
    """

    learning_rate: jax.Array
    first: jax.Array
    average: Average
    floored: jax.Array


@translating
def loss_ratio(
    lower_bound: Scalar = 0.0,
    min_scale: Scalar = 0.0,
    decay: Scalar = 0.0,
    *,
    reference: Reference = "first",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Lower the rate as the loss approaches its lower bound.

    Args:
        lower_bound: L_min, a lower bound of the loss; > 0 if `reference` is "current".
        min_scale: The smallest scale, in [0, 1]. It multiplies the other rates. With 0,
            training stops at the bound until a higher loss arrives.
        decay: The factor of the exponential average, in [0, 1); with 0, L is the last
            loss.
        reference: The denominator of the ratio: "first", the gap at the first finite
            loss, or "current", the loss itself. Structural.
        monitor: The extra argument of `update` to follow; with `None`, only `observe`
            passes metrics.
        name: Distinguishes two such controllers for `observe`.

    Raises:
        TypeError: At `update`, if the extra argument is missing.

    A loss that is not finite changes only the counter `skipped`.

    >>> ratio = loss_ratio(lower_bound=1.0)
    >>> state, scales = ratio.init(None), []
    >>> for loss in (5.0, 3.0, 2.0, 9.0):
    ...     scale, state = ratio.update(1.0, state, value=loss)
    ...     scales.append(float(scale))
    >>> scales
    [1.0, 0.5, 0.25, 1.0]
    """
    checks.number("lower_bound", lower_bound)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.averaging_factor("decay", decay)
    checks.one_of("reference", reference, Reference)
    require(
        reference == "first" or lower_bound > 0,
        f"lower_bound must be > 0 where reference is 'current', got {lower_bound}: the "
        "scale would never fall. Use reference='first'.",
    )

    def init(params):
        del params
        return LossRatioState(
            learning_rate=real(1.0),
            first=real(0.0),
            average=metrics.average(),
            floored=counters.zero(),
        )

    def advance(state, metric, updates, params):
        del updates, params
        first = jnp.where(state.average.seen == 0, metric, state.first)
        average = metrics.averaged(state.average, metric, decay)
        scale = jnp.clip(ratio(average.mean, first), real(min_scale), 1)
        return LossRatioState(
            learning_rate=scale,
            first=first,
            average=average,
            floored=counters.increment(state.floored, where=scale <= real(min_scale)),
        )

    def ratio(loss, first):
        bound = real(lower_bound)
        gap = bounded(loss - bound)
        whole = bounded(first - bound) if reference == "first" else loss
        part = jnp.where(whole > 0, gap / jnp.where(whole > 0, whole, 1), 1)
        return jnp.where(gap > 0, part, 0)

    return follow(init, advance, monitor=monitor, name=name)


METHOD = Method(
    {"lower_bound": 0.5, "min_scale": 0.05, "decay": 0.3},
    source='the "loss ratio" 1 − L / L_min',
    variants=({"reference": "current"},),
    needs=frozenset({"value"}),
    differs="Optax has no loss ratio.",
)
