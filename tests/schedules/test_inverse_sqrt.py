"""`inverse_sqrt`: its equations as a NumPy loop, and what is asked of it."""

import math

from conformance.contracts import Contract, Goal


def reference(step, *, initial, rate=1.0, warmup_steps=0):
    """η₀ / √(1 + α (t − w)) after a rise to η₀ at step w."""
    if step < warmup_steps:
        return initial * step / warmup_steps
    return initial / math.sqrt(1 + rate * (step - warmup_steps))


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)
