"""`trac`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal
from scipy import special
from test_mechanic import scaled_path


def reference(w, gradients, values, *, learning_rate, initial_scale, betas):
    """Scale the path of momentum by an error function of how it came out."""
    beta = np.array(betas)
    sigma, v = np.zeros((2, len(betas)))

    def tune(g, path, w):
        nonlocal sigma, v
        h = g @ path
        v = beta**2 * v + h**2
        sigma = beta * sigma - h
        z = sigma / np.sqrt(2 * np.where(v > 0, v, 1))
        s = initial_scale * special.erfi(z) / special.erfi(np.sqrt(0.5))
        return max(s.sum(), 0)

    return scaled_path(w, gradients, learning_rate, tune)


CONTRACT = Contract(
    reference,
    steady=None,
    goals={"quadratic": Goal(200, 1e-2)},
)
