"""`adgd2`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, initial):
    """Let the rate grow by √(2/3 + θ), as long as 2 λ² L² <= 1."""
    rate, growth, before = initial, 1 / 3, None
    for g in gradients:
        moved = 0 if before is None else np.linalg.norm(w - before[0])
        if moved > 0:
            curvature = np.linalg.norm(g - before[1]) / moved
            excess = 2 * rate**2 * curvature**2 - 1
            last, rate = rate, np.sqrt(2 / 3 + growth) * rate
            if excess > 0:
                rate = min(rate, last / np.sqrt(excess))
            growth = rate / last
        before = w, g
        w = w - rate * g
        yield w


CONTRACT = Contract(
    reference,
    goals={"quadratic": Goal(200, 1e-2, {"initial": 1e-6})},
)
