"""`cocob`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal


def reference(x, gradients, values, *, alpha=100.0, eps=1e-8):
    """Bet on each coordinate; there is no rate to give."""
    x0, largest = x, np.full_like(x, eps)
    total, theta, reward = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for g in gradients:
        largest = np.maximum(largest, np.abs(g))
        total = total + np.abs(g)
        theta = theta - g
        reward = np.maximum(reward - g * (x - x0), 0)
        bound = np.maximum(total + largest, alpha * largest)
        x = x0 + theta / (largest * bound) * (reward + largest)
        yield x


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.contrib.cocob",),
    optax_twin=lambda: optax.contrib.cocob(1.0, 8.0, 1e-6),
    goals={
        "quadratic": Goal(200, 1e-2),
        "complex_parabola": Goal(500, 1e-2),
        "complex_rosenbrock": Goal(5000, 0.2),
    },
)
