"""`step_decay`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, initial, factor, every):
    """η₀ f^⌊t/k⌋, by multiplying."""
    for _ in range(int(step // every)):
        initial *= factor
    return initial


CONTRACT = Contract(
    reference,
    optax_forms=("optax.exponential_decay",),
    optax_twin=lambda: optax.exponential_decay(0.8, 16, 0.5, staircase=True),
    goals={"quadratic": Goal(200, 5e-2)},
)
