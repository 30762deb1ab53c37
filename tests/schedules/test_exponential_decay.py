"""`exponential_decay`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, initial, decay_rate, decay_steps=1, staircase=False, end=0.0):
    """max(η₀ r^(t/s), η_end)."""
    exponent = step // decay_steps if staircase else step / decay_steps
    return max(initial * decay_rate**exponent, end)


CONTRACT = Contract(
    reference,
    optax_forms=("optax.exponential_decay",),
    optax_twin=lambda: optax.exponential_decay(0.8, 8, 0.8, end_value=0.1),
    goals={"quadratic": Goal(200, 5e-2)},
)
