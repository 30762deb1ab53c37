"""Reduce on plateau: cut the rate when the metric has stopped improving.

    improved:   m < best − θ |best|    (relative)   or   m < best − θ    (absolute)
    bad ← 0 if improved or cooling down, else bad + 1
    bad > patience:   scale ← max(scale · factor, min_scale),   bad ← 0

An evaluation m is the mean of `window` metrics. The scale starts at 1 and multiplies
the other rates.

**Trend.** With `trend=K` an evaluation also counts as improved if the regression line
through the last K evaluations, a + b·x for x = 0 … K − 1, significantly falls by more
than the threshold:

    −b (K − 1) > θ |m̄|  (or θ)    and    b + z · se(b) < 0

m̄ is their mean, se(b) the standard error of the slope and z `trend_errors`. Then a
single low metric does not hide that a noisy loss is still falling. The K evaluations
must all be after the last cut; until then, only the best counts.

**Conventions.** `convention` reproduces another library's scheduler, faults included:

    adaptax   the rule above
    torch     best (1 − θ) instead of best − θ |best|, for "max" best (1 + θ)
    keras     cuts when bad ≥ patience; the last evaluation of the cooldown counts;
              thresholds are absolute
    optax     cuts when bad = patience; (1 − θ) best, with the sign as minimized

All of them ignore a metric that is not finite, and bound the scale by `min_scale`.
PyTorch's `eps`, below which it makes no cut, has no counterpart.

Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`; `keras.callbacks.
ReduceLROnPlateau`; `optax.contrib.reduce_on_plateau`. The relative test uses |best|, so
that it also suits negative metrics.
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
    Window,
    bounded,
    whole,
)
from adaptax._core.scalars import real
from adaptax._core.words import translating
from adaptax.controllers.plateau_conventions import Convention, conventions


class PlateauState(NamedTuple):
    """The state of `reduce_on_plateau`: scalars, and the array of `recent`.

    `learning_rate` is the scale applied, and `best` the best evaluation so far, as
    minimized (float32's largest number before the first). `bad` counts evaluations
    without improvement, `cooling` those still to ignore, and `cuts` the cuts. `window`
    has the metrics of the next evaluation. `recent` has the evaluations of the trend
    since the last cut, or is `None`; `falling` is whether they fall.
    """

    learning_rate: jax.Array
    best: jax.Array
    bad: jax.Array
    cooling: jax.Array
    cuts: jax.Array
    window: Window
    recent: Recent | None
    falling: jax.Array


@translating
def reduce_on_plateau(
    factor: Scalar = 0.1,
    patience: Scalar = 10,
    threshold: Scalar = 1e-4,
    *,
    cooldown: Scalar = 0,
    min_scale: Scalar = 0.0,
    window: Scalar = 1,
    trend_errors: Scalar = 2.0,
    trend: int | None = None,
    threshold_mode: ThresholdMode | None = None,
    mode: Mode = "min",
    convention: Convention = "adaptax",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Cut the rate after more than `patience` evaluations without improvement.

    It counts as PyTorch does; Keras and Optax cut one evaluation earlier. `convention`
    reproduces the counting and the threshold of any of them.

    Args:
        factor: The factor of a cut, 0 < factor < 1.
        patience: Evaluations without improvement to wait for, >= 0.
        threshold: θ >= 0, the smallest improvement that counts.
        cooldown: Evaluations after a cut during which none counts as bad, >= 0.
        min_scale: The smallest scale, in [0, 1]. It multiplies the other rates.
        window: Metrics per evaluation, >= 1. For a training loss, about an epoch's
            steps, since single batches are noisy.
        trend_errors: z >= 0, the standard errors by which a slope must lie below 0.
        trend: K >= 3, the number of evaluations in the trend; `None` for no trend.
            Structural: it is the length of an array.
        threshold_mode: "relative" (to |best|) or "absolute"; `None` means "absolute"
            for Keras and "relative" otherwise. Structural.
        mode: "min" for a loss, "max" for an accuracy. Structural.
        convention: "adaptax", or the library to reproduce: "torch", "keras", "optax".
            Structural.
        monitor: The extra argument of `update` to follow; with `None`, only `observe`
            passes metrics.
        name: Distinguishes two such controllers for `observe`.

    Raises:
        TypeError: At `update`, if the extra argument is missing.

    A metric that is not finite changes only the counter `skipped`.

    >>> import optax
    >>> plateau = reduce_on_plateau(factor=0.5, patience=0)
    >>> state = plateau.init(None)
    >>> for loss in (1.0, 1.0):
    ...     updates, state = plateau.update(1.0, state, value=loss)
    >>> float(updates)
    0.5
    """
    checks.number("factor", factor, above=0, below=1)
    checks.count("patience", patience)
    checks.number("threshold", threshold, at_least=0)
    checks.count("cooldown", cooldown)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.count("window", window, at_least=1)
    checks.number("trend_errors", trend_errors, at_least=0)
    if trend is not None:
        checks.length("trend", trend, at_least=3)
    rules = conventions(convention, mode, threshold_mode)

    def init(params):
        del params
        return PlateauState(
            learning_rate=real(1.0),
            best=real(UNSEEN),
            bad=counters.zero(),
            cooling=counters.zero(),
            cuts=counters.zero(),
            window=metrics.window(),
            recent=None if trend is None else metrics.recent(trend),
            falling=jnp.zeros((), bool),
        )

    def evaluate(state, mean):
        improved = rules.improves(mean, state.best, threshold)
        recent, falling = state.recent, state.falling
        if recent is not None:
            recent = metrics.shifted(recent, mean)
            falling = _falls(recent, threshold, rules.threshold_mode, trend_errors)
        left = jnp.maximum(state.cooling - 1, 0)
        cooling = rules.cools(state.cooling, left)
        bad = jnp.where(improved | falling | cooling, 0, counters.increment(state.bad))
        cut = rules.fires(bad, patience, cooling)
        smaller = jnp.maximum(state.learning_rate * real(factor), real(min_scale))
        if recent is not None:
            recent = recent._replace(filled=jnp.where(cut, 0, recent.filled))
        return state._replace(
            learning_rate=jnp.where(cut, smaller, state.learning_rate),
            best=jnp.where(improved, mean, state.best),
            bad=jnp.where(cut, 0, bad),
            cooling=jnp.where(cut, whole(cooldown), left),
            cuts=counters.increment(state.cuts, where=cut),
            recent=recent,
            falling=falling,
        )

    advance = metrics.by_windows(evaluate, window, mode)
    return follow(init, advance, monitor=monitor, name=name)


def _falls(
    recent: Recent, threshold: Scalar, threshold_mode: ThresholdMode, errors: Scalar
) -> jax.Array:
    """Return whether a line through the evaluations significantly falls by enough."""
    drop, error = _line(recent.values)
    size = real(1.0)
    if threshold_mode == "relative":
        size = jnp.abs(metrics.mean_of(recent))
    certain = drop > real(errors) * error
    enough = (drop > 0) & (drop > real(threshold) * size)
    return certain & enough & (recent.filled == len(recent.values))


def _line(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Fit a line; return its fall from end to end, and the fall's standard error."""
    length = len(values)
    unit = jnp.maximum(jnp.max(jnp.abs(values)), jnp.finfo(jnp.float32).tiny)
    heights = values / unit
    heights = heights - jnp.mean(heights)
    places = jnp.arange(length, dtype=jnp.float32) - (length - 1) / 2
    spread = jnp.sum(places**2)
    slope = jnp.sum(places * heights) / spread
    residual = jnp.sum((heights - slope * places) ** 2) / (length - 2)
    ends = (length - 1) * unit
    return bounded(-slope * ends), bounded(jnp.sqrt(residual / spread) * ends)


METHOD = Method(
    {
        "factor": 0.5,
        "patience": 2,
        "threshold": 1e-3,
        "cooldown": 1,
        "min_scale": 0.01,
        "window": 2,
    },
    source="torch.optim.lr_scheduler.ReduceLROnPlateau",
    variants=(
        {"threshold_mode": "absolute"},
        {"mode": "max"},
        {"trend": 4, "patience": 1},
        {"convention": "torch"},
        {"convention": "keras"},
        {"convention": "optax"},
    ),
    needs=frozenset({"value"}),
    differs="Its conventions are compared with traces, Optax's among them.",
)
