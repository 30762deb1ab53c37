"""`compound_decay`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(step, *, initial, rate, periods=1):
    """η₀ (1 + r/s)^(−s t)."""
    return initial * (1 + rate / periods) ** (-periods * step)


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 5e-2)},
)
