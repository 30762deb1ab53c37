"""Cyclic: the rate rises and falls in triangles between two bounds.

    c = ⌊t/(s + f)⌋,    x = t − c (s + f)
    η_t = η_low + (η_high − η_low) h · a,    h = x/s  for x <= s,  (s + f − x)/f  after

    a = 1 (triangular),    2^(−c) (triangular2),    γᵗ (exp_range)

Source: Smith (2017), "Cyclical Learning Rates for Training Neural Networks". The same
as PyTorch's `CyclicLR` with `step_size_up=s` and `step_size_down=f`.
"""

from typing import Literal

import jax.numpy as jnp

from adaptax._core import checks
from adaptax._core.checks import Scalar
from adaptax._core.methods import Method
from adaptax._core.scalars import log, real
from adaptax._core.schedule import Schedule, as_schedule
from adaptax._core.words import translating
from adaptax.schedules.curves import between
from adaptax.schedules.periods import total, whole

Mode = Literal["triangular", "triangular2", "exp_range"]


@translating
def cyclic(
    low: Scalar,
    high: Scalar,
    half_cycle: Scalar,
    fall_steps: Scalar | None = None,
    *,
    mode: Mode = "triangular",
    gamma: Scalar = 1.0,
) -> Schedule:
    """Rise from a low rate to a high one and fall back, again and again.

    The rate is `low` at step 0 and at every multiple of s + f, and highest s steps
    later.

    Args:
        low: η_low >= 0.
        high: η_high >= η_low.
        half_cycle: s >= 1, the steps of a rise.
        fall_steps: f >= 1, the steps of a fall; by default s.
        mode: "triangular", "triangular2" (each triangle half as high as the last) or
            "exp_range" (their height decays with every step). Structural.
        gamma: γ, 0 < γ <= 1, used only by "exp_range".

    Raises:
        ValueError: If an argument is out of its range.
    """
    checks.rate("low", low)
    checks.rate("high", high)
    checks.at_most("low", low, "high", high)
    checks.steps("half_cycle", half_cycle, at_least=1)
    fall = half_cycle if fall_steps is None else fall_steps
    checks.steps("fall_steps", fall, at_least=1)
    checks.one_of("mode", mode, Mode)
    checks.number("gamma", gamma, above=0, at_most=1)

    def rate(step):
        cycle, rest = whole(step, total(half_cycle, fall))
        falls = rest > real(half_cycle)
        left = 1 - (rest - real(half_cycle)) / real(fall)
        height = jnp.where(falls, left, rest / real(half_cycle))
        if mode == "triangular2":
            height = height * jnp.exp2(-cycle)
        elif mode == "exp_range":
            height = height * jnp.exp(real(step) * log(gamma))
        return between(low, high, jnp.clip(height, 0, 1))

    return as_schedule(rate)


METHOD = Method(
    {"low": 0.1, "high": 0.8, "half_cycle": 6, "fall_steps": 9, "gamma": 0.98},
    source="Smith (2017)",
    variants=(
        {"fall_steps": None},
        {"mode": "triangular2"},
        {"mode": "exp_range"},
    ),
    differs="Optax has no cycles of triangles.",
    over=lambda rate, total_steps: cyclic(rate / 10, rate, max(total_steps // 10, 1)),
)
