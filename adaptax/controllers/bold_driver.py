"""Bold driver: raise the rate while the loss falls, lower it when the loss rises.

    f < f′:                      scale ← min(scale · increase, max_scale)
    f > f′ + (κ − 1) |f′|:       scale ← max(scale · decrease, min_scale)
    f′ ← f

f is the evaluation, f′ the previous one and κ the tolerance. If neither condition
holds, the scale stays. An evaluation is a single metric, or the mean over a window;
with a `decay`, f is the exponential average of the evaluations.

Source: Vogl, Mangis, Rigler, Zink & Alkon (1988), "Accelerating the convergence of the
back-propagation method", Biological Cybernetics 59; Battiti (1989), "Accelerated
backpropagation learning: two optimization methods", Complex Systems 3. The defaults are
those of MATLAB's `traingdx`. Here a step that raised the loss is not undone, and the
tolerance uses |f′|, so that it also suits negative losses.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import checks, counters, metrics
from adaptax._core.checks import Scalar
from adaptax._core.following import Controller, follow
from adaptax._core.methods import Method
from adaptax._core.metrics import Average, Mode, Window, bounded
from adaptax._core.scalars import real
from adaptax._core.words import translating


class BoldDriverState(NamedTuple):
    """The state of `bold_driver`.

    `learning_rate` is the scale applied, `window` the metrics of the next evaluation,
    and `average` f. `last_change` is the effect of the last evaluation on the scale (1
    for a rise, −1 for a cut, 0 for neither); `raises` and `cuts` count them.
    """

    learning_rate: jax.Array
    window: Window
    average: Average
    last_change: jax.Array
    raises: jax.Array
    cuts: jax.Array


@translating
def bold_driver(
    increase: Scalar = 1.05,
    decrease: Scalar = 0.7,
    tolerance: Scalar = 1.04,
    decay: Scalar = 0.0,
    window: Scalar = 1,
    min_scale: Scalar = 1e-3,
    max_scale: Scalar = 1e3,
    *,
    mode: Mode = "min",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Raise the rate slightly when the loss falls, cut it sharply when the loss rises.

    The losses of single batches fluctuate: use a `window` of about an epoch's steps, or
    a `decay` of 0.9 or more.

    Args:
        increase: The factor of the scale when the loss falls, >= 1.
        decrease: The factor of the scale when the loss rises, 0 < decrease < 1.
        tolerance: κ >= 1: a rise of up to (κ − 1) |f′| has no effect.
        decay: The factor of the exponential average, in [0, 1); with 0, f is the
            evaluation itself.
        window: Metrics per evaluation, >= 1.
        min_scale: The smallest scale, in [0, 1]. It multiplies the other rates.
        max_scale: The largest scale, >= 1.
        mode: "min" for a loss, "max" for an accuracy. Structural.
        monitor: The extra argument of `update` to follow; with `None`, only `observe`
            passes metrics.
        name: Distinguishes two such controllers for `observe`.

    Raises:
        TypeError: At `update`, if the extra argument is missing.

    A metric that is not finite changes only the counter `skipped`.

    >>> driver = bold_driver(increase=1.5, decrease=0.5)
    >>> state, scales = driver.init(None), []
    >>> for loss in (3.0, 2.0, 1.0, 4.0):
    ...     scale, state = driver.update(1.0, state, value=loss)
    ...     scales.append(float(scale))
    >>> scales
    [1.0, 1.5, 2.25, 1.125]
    """
    checks.number("increase", increase, at_least=1)
    checks.number("decrease", decrease, above=0, below=1)
    checks.number("tolerance", tolerance, at_least=1)
    checks.averaging_factor("decay", decay)
    checks.count("window", window, at_least=1)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.number("max_scale", max_scale, at_least=1)
    checks.one_of("mode", mode, Mode)

    def init(params):
        del params
        return BoldDriverState(
            learning_rate=real(1.0),
            window=metrics.window(),
            average=metrics.average(),
            last_change=counters.zero(),
            raises=counters.zero(),
            cuts=counters.zero(),
        )

    def evaluate(state, mean):
        before, now = state.average, metrics.averaged(state.average, mean, decay)
        margin = (real(tolerance) - 1) * jnp.abs(before.mean)
        comparable = before.seen > 0
        fell = comparable & (now.mean < before.mean)
        rose = comparable & (now.mean > bounded(before.mean + margin))
        scale = state.learning_rate
        higher = jnp.minimum(scale * real(increase), real(max_scale))
        lower = jnp.maximum(scale * real(decrease), real(min_scale))
        return state._replace(
            learning_rate=jnp.where(fell, higher, jnp.where(rose, lower, scale)),
            average=now,
            last_change=fell.astype(jnp.int32) - rose.astype(jnp.int32),
            raises=counters.increment(state.raises, where=fell),
            cuts=counters.increment(state.cuts, where=rose),
        )

    advance = metrics.by_windows(evaluate, window, mode)
    return follow(init, advance, monitor=monitor, name=name)


METHOD = Method(
    {
        "increase": 1.1,
        "decrease": 0.6,
        "tolerance": 1.001,
        "decay": 0.3,
        "window": 2,
        "min_scale": 0.1,
        "max_scale": 1.4,
    },
    source="Vogl, Mangis, Rigler, Zink & Alkon (1988)",
    variants=({"mode": "max"},),
    needs=frozenset({"value"}),
    differs="Optax has no bold driver.",
)
