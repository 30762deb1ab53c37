"""`inverse_time`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(step, *, initial, rate, every=1):
    """η₀ / (1 + κ k⌊t/k⌋)."""
    return initial / (1 + rate * every * (step // every))


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)
