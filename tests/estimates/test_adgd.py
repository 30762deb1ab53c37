"""`adgd`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, initial, tight=False):
    """Take half the inverse curvature, but for a growth of √(1 + θ)."""
    rate, growth, before = initial, 1e9, None
    for g in gradients:
        moved = 0 if before is None else np.linalg.norm(w - before[0])
        if moved > 0:
            square = 4 * np.sum((g - before[1]) ** 2)
            if tight:
                square = 3 * (g @ g) - 4 * (g @ before[1])
            last, rate = rate, np.sqrt(1 + growth) * rate
            if square > 0:
                rate = min(rate, moved / np.sqrt(square))
            growth = rate / last
        before = w, g
        w = w - rate * g
        yield w


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"initial": 1e-6})},
)
