"""`constant`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, value):
    """η₀."""
    return value


CONTRACT = Contract(
    reference,
    optax_forms=("optax.constant_schedule",),
    optax_twin=lambda: optax.constant_schedule(0.1),
    goals={"quadratic": Goal(200, 1e-2)},
)
