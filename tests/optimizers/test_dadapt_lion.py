"""`dadapt_lion`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.99,
    d0=1e-6,
    weight_decay=0.0,
    growth=None,
):
    """Lion at the rate α d, where d ← max(d, r / ((1 − √β₂) ‖s‖₁))."""
    growth = np.inf if growth is None else growth
    b3, d, r, m, s = np.sqrt(b2), d0, 0.0, np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        gamma = alpha * d
        u = np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * gamma * g
        r = b3 * r + (1 - b3) * gamma * np.sum(u * s)
        s = b3 * s + (1 - b3) * gamma * u
        estimate = r / ((1 - b3) * np.sum(np.abs(s)))
        d = max(d, min(estimate, d * growth))
        x = x - gamma * weight_decay * x - gamma * u
        yield x, gamma


CONTRACT = Contract(
    reference,
    goals={
        "quadratic": Goal(300, 1e-1),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            5000, 0.1, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
    },
)
