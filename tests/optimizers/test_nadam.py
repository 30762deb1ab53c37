"""`nadam`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root):
    """w ← w − α (β₁ m/(1−β₁ᵗ⁺¹) + (1−β₁) g/(1−β₁ᵗ)) / (√(v̂ + ε₀) + ε)."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        divisor = np.sqrt(v / (1 - b2**t) + eps_root) + eps
        w = w - learning_rate * ahead / divisor
        yield w


CONTRACT = Contract(
    reference,
    elementwise=True,
    optax_forms=("optax.nadam",),
    optax_twin=lambda: optax.nadam(0.1, 0.8, 0.99, 1e-6, 1e-7),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(1000, 0.05, {"learning_rate": 0.003}),
    },
)
