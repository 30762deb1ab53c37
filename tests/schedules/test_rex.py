"""`rex`: its equations as a NumPy loop, and what is asked of it."""

from conformance.contracts import Contract, Goal


def reference(step, *, initial, total_steps, end=0.0):
    """η_end + (η₀ − η_end) (1 − x) / (½ + ½ (1 − x))."""
    x = min(step / total_steps, 1)
    return end + (initial - end) * (1 - x) / (1 / 2 + (1 - x) / 2)


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2)},
)
