"""`dadapt_sgd`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(x, gradients, values, *, learning_rate=1.0, b=0.0, d0=1e-6, growth=None):
    """Dual averaging from x₀ at the rate α d / ‖g₀‖, where d ← max(d, 2 r / ‖s‖)."""
    growth = np.inf if growth is None else growth
    x0, s, r, d, first_norm = x, np.zeros_like(x), 0.0, d0, None
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        if first_norm is None:
            first_norm = np.sqrt(np.sum(g**2))
        gamma = alpha * d / first_norm
        r = r + gamma * np.sum(g * s)
        s = s + gamma * g
        d = max(d, min(2 * r / np.sqrt(np.sum(s**2)), d * growth))
        x = b * x + (1 - b) * (x0 - s)
        yield x, gamma


CONTRACT = Contract(
    reference,
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.1}),
        "complex_rosenbrock": Goal(5000, 0.05, {"learning_rate": 0.003}),
    },
)
