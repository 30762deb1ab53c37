"""`cosine`: its equations as a NumPy loop, and what is asked of it."""

import math

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, peak, total_steps, warmup_steps=0, end=0.0):
    """A rise to the peak at step w, and half a cosine down to step T."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    if step >= total_steps:
        return end
    angle = math.pi * (step - warmup_steps) / (total_steps - warmup_steps)
    return end + (peak - end) * (1 + math.cos(angle)) / 2


CONTRACT = Contract(
    reference,
    optax_forms=(
        "optax.cosine_decay_schedule",
        "optax.warmup_cosine_decay_schedule",
    ),
    optax_twin=lambda: optax.warmup_cosine_decay_schedule(0.0, 0.8, 5, 40, 0.1),
    goals={"quadratic": Goal(200, 1e-2)},
)
