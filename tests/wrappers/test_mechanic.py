"""`mechanic`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal
from reference.momentum import Momentum


def reference(
    w, gradients, values, *, learning_rate, initial_scale, weight_decay, eps, betas
):
    """Learn by how much to scale the path of momentum."""
    n, beta = len(betas), np.array(betas)
    s, r, m, v = np.zeros((4, n))

    def tune(g, path, w):
        nonlocal s, r, m, v
        size = weight_decay * s.sum() * np.linalg.norm(g) / np.linalg.norm(w)
        h = (g + size * w) @ path
        m = np.maximum(beta * m, abs(h))
        v = beta**2 * v + h**2
        r = np.maximum(0, beta * r - s * h)
        s = (initial_scale / n * m + r) / (np.sqrt(v) + eps)
        return s.sum()

    return scaled_path(w, gradients, learning_rate, tune)


def scaled_path(w, gradients, learning_rate, tune):
    """Go along S times the path of momentum; give S times its rate as well."""
    start, path, inner = w, np.zeros_like(w), Momentum(w, 1.0)
    for g, rate in zip(
        gradients, np.broadcast_to(learning_rate, len(gradients)), strict=True
    ):
        scale = tune(g, path, w)
        path = path + rate * inner.step(g)
        w = start + scale * path
        yield w, scale * rate


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.mechanize",),
    steady=None,
    goals={"quadratic": Goal(200, 1e-2)},
)
