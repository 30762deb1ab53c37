"""`dadapt_adam`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    d0=1e-6,
    weight_decay=0.0,
    growth=None,
    bias_correction=False,
):
    """Adam at the rate α d, where d ← max(d, r / ((1 − √β₂) ‖s‖₁))."""
    growth = np.inf if growth is None else growth
    b3, d, r, t = np.sqrt(b2), d0, 0.0, 0
    m, v, s = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        t += 1
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        gamma = alpha * d * c
        r = b3 * r + (1 - b3) * gamma * np.sum(g * s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * gamma * g
        v = b2 * v + (1 - b2) * g**2
        s = b3 * s + (1 - b3) * gamma * g
        estimate = r / ((1 - b3) * np.sum(np.abs(s)))
        d = max(d, min(estimate, d * growth))
        x = x - m / (np.sqrt(v) + eps) - gamma * weight_decay * x
        yield x, gamma


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.dadapt_adamw",),
    optax_twin=lambda: optax.contrib.dadapt_adamw(
        0.8, (0.8, 0.99), eps=1e-6, estim_lr0=0.01, weight_decay=0.02
    ),
    goals={
        "quadratic": Goal(300, 1e-2),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.01, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
    },
)
