"""`dog`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, reps_rel, eps):
    """Divide the largest distance from the start by the root of the summed squares."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), eps
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += g @ g
        w = w - distance / np.sqrt(total) * g
        yield w


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.dog",),
    optax_twin=lambda: optax.contrib.dog(1.0, ("heuristic", 0.02), 1e-3),
    goals={"quadratic": Goal(200, 1e-2)},
)
