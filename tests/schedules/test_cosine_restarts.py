"""`cosine_restarts`: its equations as a NumPy loop, and what is asked of it."""

import math

import optax
from conformance.contracts import Contract, Goal


def reference(
    step,
    *,
    peak,
    first_cycle,
    cycle_mult=1.0,
    peak_decay=1.0,
    end=0.0,
    warmup_steps=0,
    start=0.0,
):
    """Half cosines one after the other, by walking through the cycles."""
    length = first_cycle
    while step >= length:
        step, length = step - length, length * cycle_mult
        peak = max(peak * peak_decay, end)
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    part = (step - warmup_steps) / (length - warmup_steps)
    return end + (peak - end) * (1 + math.cos(math.pi * part)) / 2


CONTRACT = Contract(
    reference,
    optax_forms=("optax.sgdr_schedule",),
    optax_twin=lambda: optax.sgdr_schedule(
        {
            "init_value": 0.02,
            "peak_value": peak,
            "warmup_steps": 2,
            "decay_steps": steps,
            "end_value": 0.05,
        }
        for peak, steps in ((0.8, 10), (0.64, 20), (0.512, 40))
    ),
    goals={"quadratic": Goal(200, 1e-2)},
)
