"""`adamg`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.95,
    b2=0.999,
    b3=0.95,
    eps=1e-8,
    p=0.2,
    q=0.24,
):
    """Adam of the gradient times an average of p vᵠ, at the rate min(α, 1/√t)."""
    v, r, m = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, alpha) in enumerate(zip(gradients, alphas, strict=True), start=1):
        v = b2 * v + (1 - b2) * g**2
        r = b3 * r + (1 - b3) * p * v**q
        m = b1 * m + (1 - b1) * r * g
        gamma = min(alpha, 1 / np.sqrt(t))
        x = x - gamma * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield x, gamma


CONTRACT = Contract(
    reference,
    elementwise=True,
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(1000, 0.01, {"learning_rate": 0.03}),
    },
)
