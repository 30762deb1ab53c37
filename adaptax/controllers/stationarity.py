"""Stationarity: cut the rate once training at this rate has become stationary.

    scale ← max(scale · factor, min_scale)     when the test holds
    Δ_k = ⟨x_{k+1}, d_k⟩ + ½ α ‖d_k‖² = ⟨x_k, d_k⟩ − ½ α ‖d_k‖²

* test="sasa" (SASA+): in the stationary state the mean of Δ_k is 0, where
  x_{k+1} = x_k − α d_k. The test holds when 0 lies in the confidence
  interval of the mean over the window, mean ± t s / √N, and the means of both halves
  have the same sign. Before the first cut, 0 must lie in the interval of each half.
  s² is estimated from means of ⌊√N⌋ Δs each, and t has ⌊√N⌋ − 1 degrees of freedom.
* test="slope" (SLOPE): the loss no longer falls. It holds when the slope b of the
  losses in the window over the steps is not significantly below 0, b >= −t se(b).
* test="pflug" (Pflug): ⟨g_t, g_{t−1}⟩, summed since the warm-up after a cut, is below
  0.

Source: Zhang, Lang, Liu & Xiao (2020), "Statistical Adaptive Stochastic Gradient
Methods" (arXiv 2002.10597), for the first two. They test the last eighth of the steps
since a cut, and set momentum to 0 at a cut; here the window is fixed, and momentum
stays. Chee & Toulis (2017), "Convergence Diagnostics for Stochastic Gradient Descent
with Constant Step Size" (arXiv 1710.06382), for the third, after Pflug (1990),
"Non-asymptotic Confidence Bounds for Stochastic Approximation Algorithms with Constant
Step Size". Pflug's test is known to cut too early: Pesme, Dieuleveut & Flammarion
(2020), "On Convergence-Diagnostic based Step Sizes for Stochastic Gradient Descent",
ICML (arXiv 2007.00534).
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from adaptax._core import checks, counters
from adaptax._core.checks import Scalar
from adaptax._core.coordinates import accumulators, remember
from adaptax._core.following import Controller, follow, follow_gradients
from adaptax._core.leaves import global_norm, inner_product
from adaptax._core.methods import Method
from adaptax._core.metrics import whole
from adaptax._core.scalars import real
from adaptax._core.words import translating
from adaptax.controllers.student_t import upper_quantile

Test = Literal["sasa", "slope", "pflug"]

SMALLEST_WINDOW = 32


class StationarityState(NamedTuple):
    """The state of `stationarity` by SASA+ or SLOPE.

    `learning_rate` is the scale applied. `window` has the last statistics or losses,
    oldest first; `seen` counts them since the last cut, and `cuts` the cuts.
    """

    learning_rate: jax.Array
    window: jax.Array
    seen: jax.Array
    cuts: jax.Array


class PflugState(NamedTuple):
    """The state of `stationarity` by Pflug's test.

    `learning_rate` is the scale applied, and `total` the sum of the inner products.
    `seen` counts the gradients since the last cut, and `cuts` the cuts. `previous` is
    the last gradient, shaped like the parameters, in float32 for half precision.
    """

    learning_rate: jax.Array
    total: jax.Array
    seen: jax.Array
    cuts: jax.Array
    previous: optax.Updates


@translating
def stationarity(
    factor: Scalar = 0.1,
    significance: Scalar = 0.05,
    warmup: Scalar = 1000,
    every: Scalar = 100,
    min_scale: Scalar = 0.0,
    *,
    window: int = 1000,
    test: Test = "sasa",
    monitor: str | None = "value",
    name: str | None = None,
) -> Controller:
    """Cut the rate when a statistical test finds training stationary.

    Args:
        factor: The factor of a cut, 0 < factor < 1. The authors of SASA+ use 0.1, those
            of SLOPE and Pflug's test 0.5.
        significance: The level of the tests, in (0, 1); Pflug's has none. A smaller
            level makes SASA+ and SLOPE cut earlier, since their intervals are wider.
        warmup: Steps before the first cut, >= 0; for Pflug's test, the gradients not
            counted at the start and after each cut.
        every: Steps between tests, >= 1.
        min_scale: The smallest scale, in [0, 1]. It multiplies the other rates.
        window: The number of statistics to keep and test, >= 32. The first test is made
            when the window is full. Pflug's test has no window. Structural.
        test: "sasa" needs `params`. It treats the updates that reach it, times its own
            scale, as the step α d: put it after all other rates, whose product should
            be constant. "slope" needs the loss, `value`. "pflug" treats the updates as
            the gradient, unless the extra argument `grad` is given. Structural.
        monitor: For "slope", the extra argument of `update` to follow; with `None`,
            only `observe` passes losses. The other tests have nothing to observe.
        name: The name of the state. Structural.

    Raises:
        ValueError: At `update`, if `params` is needed and missing.
        TypeError: At `update`, if `value` is needed and missing.

    A value that is not finite changes only the counter `skipped`. If every statistic is
    0, there is no cut; losses that are all equal do not fall, and there is one.
    """
    checks.number("factor", factor, above=0, below=1)
    checks.number("significance", significance, above=0, below=1)
    checks.count("warmup", warmup)
    checks.count("every", every, at_least=1)
    checks.number("min_scale", min_scale, at_least=0, at_most=1)
    checks.count("window", window, at_least=SMALLEST_WINDOW)
    checks.one_of("test", test, Test)

    def cut(rate, where):
        smaller = jnp.maximum(rate * real(factor), real(min_scale))
        return jnp.where(where, smaller, rate)

    def start(params):
        del params
        zeros = jnp.zeros((window,), jnp.float32)
        return StationarityState(real(1.0), zeros, counters.zero(), counters.zero())

    def enter(state, statistic, stationary):
        """Add a statistic to the window, and cut if the test holds."""
        latest = jnp.concatenate([state.window[1:], statistic[None]])
        seen = counters.increment(state.seen)
        due = (seen >= window) & (seen % whole(every) == 0)
        due &= (state.cuts > 0) | (seen > whole(warmup))
        cuts = due & stationary(latest, significance, state.cuts == 0)
        return StationarityState(
            learning_rate=cut(state.learning_rate, cuts),
            window=latest,
            seen=jnp.where(cuts, 0, seen),
            cuts=counters.increment(state.cuts, where=cuts),
        )

    def follow_steps(state, gradients, updates, params):
        del gradients
        half = state.learning_rate / 2
        square = inner_product(updates, updates)
        statistic = inner_product(params, updates) - half * square
        usable = jnp.isfinite(statistic)
        statistic = jnp.where(usable, statistic, 0)
        return enter(state, statistic, _mean_is_zero), usable

    def follow_losses(state, metric, updates, params):
        del updates, params
        return enter(state, metric, _does_not_fall)

    if test == "sasa":
        return follow_gradients(
            "stationarity", start, follow_steps, needs=("params",), name=name
        )
    if test == "slope":
        return follow(start, follow_losses, monitor=monitor, name=name)
    return _pflug(cut, warmup, every, name)


def _mean_is_zero(window, significance, first_cut):
    """Return whether the mean of the statistics is compatible with 0."""
    middle = len(window) // 2
    halves = window[:middle], window[middle:]
    signs = [jnp.sign(jnp.mean(half)) for half in halves]
    whole_holds = _interval_holds_zero(window, significance) & (signs[0] == signs[1])
    each_holds = [_interval_holds_zero(half, significance) for half in halves]
    return jnp.where(first_cut, each_holds[0] & each_holds[1], whole_holds)


def _interval_holds_zero(statistics, significance):
    number = len(statistics)
    size = math.isqrt(number)  # of a batch: neighbours are correlated
    batches = statistics[: number // size * size].reshape(-1, size).mean(axis=1)
    mean = jnp.mean(statistics)
    spread = jnp.linalg.norm(batches - mean) * math.sqrt(size / (len(batches) - 1))
    quantile = upper_quantile(real(significance) / 2, size - 1)
    return jnp.abs(mean) < quantile * spread / math.sqrt(number)


def _does_not_fall(losses, significance, first_cut):
    """Return whether a line through the losses has no significant downward slope."""
    del first_cut
    number = len(losses)
    steps = jnp.arange(number, dtype=jnp.float32) - (number - 1) / 2
    largest = jnp.max(jnp.abs(losses))
    centred = losses / jnp.where(largest > 0, largest, 1)
    centred = centred - jnp.mean(centred)
    slope = jnp.sum(steps * centred) / jnp.sum(steps * steps)
    error = jnp.sum(jnp.square(centred - slope * steps)) / (number - 2)
    deviation = jnp.sqrt(error / jnp.sum(steps * steps))
    return slope >= -upper_quantile(real(significance), number - 2) * deviation


def _pflug(cut, warmup, every, name) -> Controller:
    def init(params):
        return PflugState(
            real(1.0),
            real(0.0),
            counters.zero(),
            counters.zero(),
            accumulators(params),
        )

    def advance(state, gradients, updates, params):
        del updates, params
        seen = counters.increment(state.seen)
        counted = seen > jnp.maximum(whole(warmup), 1)
        previous = remember(state.previous, gradients)
        product = inner_product(gradients, state.previous)
        usable = jnp.isfinite(product) & jnp.isfinite(global_norm(gradients))
        total = state.total + jnp.where(counted, product, 0)
        usable &= jnp.isfinite(total)
        cuts = (total < 0) & (seen % whole(every) == 0)
        after = PflugState(
            learning_rate=cut(state.learning_rate, cuts),
            total=jnp.where(cuts, 0, total),
            seen=jnp.where(cuts, 0, seen),
            cuts=counters.increment(state.cuts, where=cuts),
            previous=previous,
        )
        return after, usable

    return follow_gradients("stationarity", init, advance, name=name)


METHOD = Method(
    {
        "factor": 0.5,
        "significance": 0.01,
        "warmup": 4,
        "every": 3,
        "min_scale": 0.1,
        "window": 32,
    },
    source="Zhang, Lang, Liu & Xiao (2020)",
    variants=({"test": "slope"}, {"test": "pflug"}),
    needs=frozenset({"params"}),
    differs="Optax has no tests of stationarity.",
)
