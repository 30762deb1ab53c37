"""Greedy: raise the rate while the metric keeps improving, lower it when it does not.

    cooling > 0:     cooling ← cooling − 1,   good, bad ← 0
    warming > 0:     warming ← warming − 1,   good, bad ← 0
    m < best − θ:    best ← m,   good ← good + 1,   bad ← 0
    otherwise:       bad ← bad + 1,   good ← 0

    good > patience:   scale ← min(scale / factor, max_scale),   good ← 0,
                       warming ← warmup,   left ← reset
    bad > patience:    scale ← max(scale · factor, min_scale),   bad ← 0,
                       cooling ← cooldown
    scale = min_scale: left ← left − 1;   left ≤ 0:   start anew with scale = 1

m is the mean of the last `window` metrics, at first of fewer.

Source: Subramanian, Krishnamoorthy & Murthy (2025), "Dynamic Learning Rate Scheduling
based on Loss Changes Leads to Faster Convergence" (arXiv 2512.14527), called GreedyLR.
Here the scale and its bounds multiply the other rates. In the authors' code they are
rates: the defaults 1e-3 and 1 raise any smaller rate, and never go below 1e-3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from adaptax._core import checks, counters, metrics
from adaptax._core.checks import Scalar
from adaptax._core.following import Controller, follow
from adaptax._core.methods import Method
from adaptax._core.metrics import (
    UNSEEN,
    Mode,
    Recent,
    ThresholdMode,
    improves,
    whole,
)
from adaptax._core.scalars import real
from adaptax._core.words import translating


class GreedyState(NamedTuple):
    """The state of `greedy`.

    `learning_rate` is the scale applied, and `best` the best evaluation, as minimized
    (float32's largest number before the first). `good` and `bad` count consecutive
    evaluations with and without improvement, `cooling` and `warming` those still to
    ignore after a cut or a rise, and `left` those at the smallest scale until a reset.
    `recent` has the metrics of the window. `last_change` is the effect of the last
    metric on the scale (1 for a rise, −1 for a cut, 2 for a reset, 0 for none);
    `raises`, `cuts` and `resets` count them.
    """

    learning_rate: jax.Array
    best: jax.Array
    good: jax.Array
    bad: jax.Array
    cooling: jax.Array
    warming: jax.Array
    left: jax.Array
    recent: Recent
    last_change: jax.Array
    raises: jax.Array
    cuts: jax.Array
    resets: jax.Array


@translating
def greedy(
    factor: Scalar = 0.95,
    patience: Scalar = 10,
    threshold: Scalar = 1e-6,
    cooldown: Scalar = 0,
    warmup: Scalar = 0,
    min_scale: Scalar = 1e-3,
    max_scale: Scalar = 1e3,
    reset: Scalar = 500,
    *,
    window: int = 1,
    threshold_mode: ThresholdMode = "absolute",
    mode: Mode = "min",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Raise the rate after a run of improvements, lower it after a run without any.

    Args:
        factor: The factor of a cut, and the divisor of a rise, 0 < factor < 1.
        patience: The scale changes after more than so many consecutive evaluations,
            >= 0.
        threshold: θ >= 0, the smallest improvement that counts.
        cooldown: Evaluations to ignore after a cut, >= 0.
        warmup: Evaluations to ignore after a rise, >= 0.
        min_scale: The smallest scale, in [0, 1]. It multiplies the other rates.
        max_scale: The largest scale, >= 1.
        reset: Evaluations at the smallest scale until it starts anew, >= 1.
        window: Metrics to average, >= 1; the authors use 50. Structural: it is the
            length of an array.
        threshold_mode: "absolute", or "relative" (to |best|). Structural.
        mode: "min" for a loss, "max" for an accuracy. Structural.
        monitor: The extra argument of `update` to follow; with `None`, only `observe`
            passes metrics.
        name: Distinguishes two such controllers for `observe`.

    Raises:
        TypeError: At `update`, if the extra argument is missing.

    A metric that is not finite changes only the counter `skipped`.

    >>> greed = greedy(factor=0.5, patience=0)
    >>> state, scales = greed.init(None), []
    >>> for loss in (3.0, 2.0, 4.0, 4.0):
    ...     scale, state = greed.update(1.0, state, value=loss)
    ...     scales.append(float(scale))
    >>> scales
    [2.0, 4.0, 2.0, 1.0]
    """
    checks.number("factor", factor, above=0, below=1)
    checks.count("patience", patience)
    checks.number("threshold", threshold, at_least=0)
    checks.count("cooldown", cooldown)
    checks.count("warmup", warmup)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.number("max_scale", max_scale, at_least=1)
    checks.count("reset", reset, at_least=1)
    checks.length("window", window)
    checks.one_of("threshold_mode", threshold_mode, ThresholdMode)
    checks.one_of("mode", mode, Mode)

    def init(params):
        del params
        return _start(window, reset)

    def advance(state, metric, updates, params):
        del updates, params
        metric = metric if mode == "min" else -metric
        recent = metrics.shifted(state.recent, metric)
        mean = metrics.mean_of(recent)
        improved = improves(mean, state.best, threshold, threshold_mode)
        state = rescaled(_counted(state, mean, improved))
        at_smallest = (state.learning_rate <= real(min_scale)).astype(jnp.int32)
        state = state._replace(recent=recent, left=state.left - at_smallest)
        anew = _start(window, reset)._replace(
            last_change=whole(2),
            raises=state.raises,
            cuts=state.cuts,
            resets=counters.increment(state.resets),
        )
        return jax.tree.map(
            lambda new, old: jnp.where(state.left <= 0, new, old), anew, state
        )

    def rescaled(state):
        raised, cut = state.good > whole(patience), state.bad > whole(patience)
        scale = state.learning_rate
        higher = jnp.minimum(scale / real(factor), real(max_scale))
        lower = jnp.maximum(scale * real(factor), real(min_scale))
        return state._replace(
            learning_rate=jnp.where(raised, higher, jnp.where(cut, lower, scale)),
            good=jnp.where(raised, 0, state.good),
            bad=jnp.where(cut, 0, state.bad),
            cooling=jnp.where(cut, whole(cooldown), state.cooling),
            warming=jnp.where(raised, whole(warmup), state.warming),
            left=jnp.where(raised, whole(reset), state.left),
            last_change=raised.astype(jnp.int32) - cut.astype(jnp.int32),
            raises=counters.increment(state.raises, where=raised),
            cuts=counters.increment(state.cuts, where=cut),
        )

    return follow(init, advance, monitor=monitor, name=name)


def _start(window: int, reset: Scalar) -> GreedyState:
    return GreedyState(
        learning_rate=real(1.0),
        best=real(UNSEEN),
        good=counters.zero(),
        bad=counters.zero(),
        cooling=counters.zero(),
        warming=counters.zero(),
        left=whole(reset),
        recent=metrics.recent(window),
        last_change=counters.zero(),
        raises=counters.zero(),
        cuts=counters.zero(),
        resets=counters.zero(),
    )


def _counted(state: GreedyState, mean: jax.Array, improved: jax.Array) -> GreedyState:
    """Count an evaluation as good or bad, or as one to ignore."""
    cooling, warming = state.cooling > 0, state.warming > 0
    listening = ~cooling & ~warming
    improved = listening & improved
    worse = listening & ~improved
    return state._replace(
        best=jnp.where(improved, mean, state.best),
        good=jnp.where(improved, counters.increment(state.good), 0),
        bad=jnp.where(worse, counters.increment(state.bad), 0),
        cooling=jnp.maximum(state.cooling - 1, 0),
        warming=jnp.where(cooling, state.warming, jnp.maximum(state.warming - 1, 0)),
    )


METHOD = Method(
    {
        "factor": 0.8,
        "patience": 1,
        "threshold": 1e-4,
        "cooldown": 1,
        "warmup": 2,
        "min_scale": 0.7,
        "max_scale": 1.5,
        "reset": 9,
        "window": 3,
    },
    source="Subramanian, Krishnamoorthy & Murthy (2025)",
    variants=({"threshold_mode": "relative"}, {"mode": "max"}),
    needs=frozenset({"value"}),
    differs="Optax has no GreedyLR.",
)
