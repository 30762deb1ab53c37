"""`dowg`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(w, gradients, values, *, reps_rel):
    """Weigh each square by the squared distance that was covered then."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), 0.0
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += distance**2 * (g @ g)
        w = w - distance**2 / np.sqrt(total) * g
        yield w


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.dowg",),
    goals={"quadratic": Goal(200, 1e-2)},
)
