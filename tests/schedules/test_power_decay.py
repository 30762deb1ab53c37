"""`power_decay`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(step, *, initial, power, rate=1.0):
    """η₀ (1 + α t)^(−p)."""
    return initial * (1 + rate * step) ** -power


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)
