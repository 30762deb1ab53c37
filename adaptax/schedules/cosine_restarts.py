"""Cosine with warm restarts: cycles of falling rates, which may grow longer and lower.

    x = t − sᵢ                                                for sᵢ <= t < sᵢ + Tᵢ
    η_t = η_start + (ηᵢ − η_start) x/w                                x < w
    η_t = η_end + ½ (ηᵢ − η_end) (1 + cos π(x − w)/(Tᵢ − w))          x >= w
    Tᵢ = T₀ mⁱ,    sᵢ = T₀ (mⁱ − 1)/(m − 1),    ηᵢ = max(η_peak γⁱ, η_end)

Source: Loshchilov & Hutter (2017), "SGDR: Stochastic Gradient Descent with Warm
Restarts" (without γ and w). `optax.sgdr_schedule` takes a list of cycles and ends; this
schedule does not end.

For the α of Keras's `CosineDecayRestarts` use `end=α * peak`. With `m_mul` below 1 as
well, Keras lowers not the peaks but their heights above the end: that is α η_peak +
(1 − α) η_t, where η_t has `end=0`, by `as_schedule`.
"""

import jax
import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import log, precise, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between, half_cosine
from adaptax.schedules.periods import elapsed, whole


@translating
def cosine_restarts(
    peak: Scalar,
    first_cycle: Scalar,
    cycle_mult: Scalar = 1.0,
    *,
    peak_decay: Scalar = 1.0,
    end: Scalar = 0.0,
    warmup_steps: Scalar = 0,
    start: Scalar = 0.0,
) -> Schedule:
    """Fall along half a cosine, again and again.

    All cycles are equally long by default, as in PyTorch; in Keras each is twice as
    long as the previous one.

    The rate is `peak` at step 0, and jumps up at the first step of each cycle; with a
    warm-up it rises from `start` there. The last step of a cycle is one step before
    `end`.

    Args:
        peak: η_peak >= 0.
        first_cycle: T₀ >= 1, in steps.
        cycle_mult: m >= 1, the factor by which each cycle is longer than the previous
            one. A cycle's start is rounded to a whole step if it is within 4e-6 of it,
            relative to the start.
        peak_decay: γ, 0 < γ <= 1, the factor of the peak at each restart.
        end: η_end, 0 <= η_end <= η_peak.
        warmup_steps: w, 0 <= w <= T₀, the first steps of each cycle, a linear rise.
        start: η_start >= 0, the rate from which it rises.

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("peak", peak)
    checks.steps("first_cycle", first_cycle, at_least=1)
    checks.number("cycle_mult", cycle_mult, at_least=1)
    checks.number("peak_decay", peak_decay, above=0, at_most=1)
    checks.rate("end", end)
    checks.at_most("end", end, "peak", peak)
    checks.steps("warmup_steps", warmup_steps)
    checks.at_most("warmup_steps", warmup_steps, "first_cycle", first_cycle)
    checks.rate("start", start)

    def rate(step):
        excess = precise(lambda xp, mult: mult - 1, cycle_mult)
        grows = excess > 0
        growing = _growing_cycle(step, first_cycle, jnp.where(grows, excess, 1))
        index, rest = whole(step, first_cycle)
        equal = (index, rest, real(first_cycle))
        index, rest, length = (
            jnp.where(grows, *pair) for pair in zip(growing, equal, strict=True)
        )
        top = jnp.maximum(real(peak) * jnp.exp(index * log(peak_decay)), real(end))
        risen = between(start, top, elapsed(rest, 0, warmup_steps))
        return between(risen, end, half_cosine(elapsed(rest, warmup_steps, length)))

    return as_schedule(rate)


def _growing_cycle(step, first_cycle, excess):
    """Return a cycle's index, the steps since its start, and its length, for m > 1."""
    step, first = real(step), real(first_cycle)

    def start(index):
        exact = first * jnp.expm1(index * jnp.log1p(excess)) / excess
        away = jnp.round(exact) - exact
        # In float32, the powers of a whole m are not whole.
        correction = jnp.where(jnp.abs(away) <= 4e-6 * exact, away, 0)
        return exact + jax.lax.stop_gradient(correction)

    index = jnp.floor(jnp.log1p(step * excess / first) / jnp.log1p(excess))
    index = index + real(step >= start(index + 1)) - real(step < start(index))
    return index, step - start(index), start(index + 1) - start(index)


METHOD = Method(
    {
        "peak": 0.8,
        "first_cycle": 10,
        "cycle_mult": 2.0,
        "peak_decay": 0.8,
        "end": 0.05,
        "warmup_steps": 2,
        "start": 0.02,
    },
    source="Loshchilov & Hutter (2017)",
    variants=({"warmup_steps": 0},),
    over=lambda rate, total_steps: cosine_restarts(rate, max(total_steps // 3, 1), 2.0),
)
