"""`warmup_stable_decay`: its equations as a NumPy loop, and what is asked of it."""

import math

import optax
from conformance.contracts import Contract, Goal


def reference(
    step,
    *,
    peak,
    total_steps,
    warmup_steps,
    decay_steps,
    shape="linear",
    end=0.0,
):
    """A trapezoid whose last side has a shape."""
    if step >= total_steps:
        return end
    if step < warmup_steps:
        return peak * step / warmup_steps
    if step < total_steps - decay_steps:
        return peak
    x = (step - (total_steps - decay_steps)) / decay_steps
    cosine = (1 + math.cos(math.pi * x)) / 2
    left = {
        "linear": 1 - x,
        "cosine": cosine,
        "mirror_cosine": 2 * (1 - x) - cosine,
        "sqrt": 1 - math.sqrt(x),
        "square": 1 - x**2,
        "exponential": (0.01**x - 0.01) / 0.99,
    }
    return end + (peak - end) * left[shape]


CONTRACT = Contract(
    reference,
    optax_twin=lambda: optax.join_schedules(
        [
            optax.linear_schedule(0.0, 0.8, 5),
            optax.constant_schedule(0.8),
            optax.linear_schedule(0.8, 0.1, 20),
        ],
        [5, 20],
    ),
    goals={"quadratic": Goal(200, 1e-2)},
)
