"""`warmup`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, schedule, steps, start=0.0):
    """From a to the schedule's first rate, then the schedule."""
    if step < steps:
        return start + (float(schedule(0)) - start) * step / steps
    return float(schedule(step - steps))


CONTRACT = Contract(
    reference,
    optax_forms=("optax.warmup_constant_schedule",),
    optax_twin=lambda: optax.join_schedules(
        [optax.linear_schedule(0.05, 0.8, 6), optax.linear_schedule(0.8, 0.1, 30)],
        [6],
    ),
    goals={"quadratic": Goal(200, 1e-2)},
)
