"""`schedule_free_polyak`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal


def reference(
    y,
    gradients,
    values,
    *,
    learning_rate,
    b1,
    b2,
    eps,
    lower_bound,
    least_norm_sq,
):
    """Polyak's step of the loss linear around y, seen from z, in the norm of 1/D."""
    z, x, v = y.copy(), y.copy(), np.zeros_like(y)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, value, alpha) in enumerate(
        zip(gradients, values, alphas, strict=True), start=1
    ):
        v = b2 * v + (1 - b2) * g**2
        scaled = g / (np.sqrt(v / (1 - b2**t)) + eps)
        gap = max(value - lower_bound + b1 * (g @ (z - x)), 0)
        gamma = alpha * gap / max(g @ scaled, least_norm_sq)
        z = z - gamma * scaled
        x = (1 - 1 / t) * x + z / t
        yield (1 - b1) * z + b1 * x, gamma


CONTRACT = Contract(
    reference,
    goals={
        "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0}),
        "complex_parabola": Goal(500, 1e-2, {"learning_rate": 0.3}),
        "complex_rosenbrock": Goal(5000, 0.05, {"learning_rate": 0.003}),
    },
)
