"""`prodigy`: its equations as a NumPy loop, and what is asked of it."""

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
    b3=None,
    eps=1e-8,
    d0=1e-6,
    d_coef=1.0,
    weight_decay=0.0,
    growth=None,
    freeze_after=None,
    bias_correction=False,
    safeguard_warmup=False,
    slice_p=1,
):
    """Adam at the rate α d, where d ← max(d, κ r / ‖s‖₁).

    Leaves are sliced each for itself; a p that divides the size of all but the last is
    that of the whole.
    """
    b3 = np.sqrt(b2) if b3 is None else b3
    growth = np.inf if growth is None else growth
    x0, m, v, r, s = x, np.zeros_like(x), np.zeros_like(x), 0.0, np.zeros_like(x)
    d = largest = d0
    alphas = np.broadcast_to(learning_rate, len(gradients))
    t = 0
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        t += 1
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        gamma = alpha * d * c
        r = b3 * r + d / d0 * gamma * np.sum((g * (x0 - x))[::slice_p])
        s = b3 * s + d / d0 * (d if safeguard_warmup else gamma) * g
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        estimate = d_coef * r / np.sum(np.abs(s[::slice_p]))
        if freeze_after is None or t <= freeze_after:
            leapt = max(d, estimate) if d == d0 else d
            largest = max(largest, estimate)
            d = min(largest, leapt * growth)
        x = x - gamma * (m / (np.sqrt(v) + d * eps) + weight_decay * x)
        yield x, gamma


CONTRACT = Contract(
    reference,
    by_leaf="slice_p",
    static=frozenset({"slice_p"}),
    optax_forms=("optax.contrib.prodigy",),
    optax_twin=lambda: optax.contrib.prodigy(
        0.8,
        (0.8, 0.99),
        eps=1e-6,
        estim_lr0=0.01,
        estim_lr_coef=0.9,
        weight_decay=0.02,
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
