"""`polynomial`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, initial, total_steps, power, end=0.0):
    """η_end + (η₀ − η_end) (1 − t/T)^p."""
    if step >= total_steps:
        return end
    return end + (initial - end) * (1 - step / total_steps) ** power


CONTRACT = Contract(
    reference,
    optax_forms=("optax.polynomial_schedule",),
    optax_twin=lambda: optax.polynomial_schedule(0.8, 0.1, 0.9, 40),
    goals={"quadratic": Goal(200, 1e-2)},
)
