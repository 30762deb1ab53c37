"""`linear`: its equations as a NumPy loop, and what is asked of it."""

import optax
from conformance.contracts import Contract, Goal


def reference(step, *, initial, total_steps, end=0.0):
    """η₀ − (t/T) η₀, ended at η_end."""
    return (
        end if step >= total_steps else initial + (end - initial) * step / total_steps
    )


CONTRACT = Contract(
    reference,
    optax_forms=("optax.linear_schedule",),
    optax_twin=lambda: optax.linear_schedule(0.8, 0.1, 40),
    goals={"quadratic": Goal(200, 1e-2)},
)
