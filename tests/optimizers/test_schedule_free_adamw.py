"""`schedule_free_adamw`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal
from reference.averaging import averaging_without_schedule


def reference(
    w, gradients, values, *, learning_rate, b2, eps, weight_decay, **averaging
):
    """Divide by the root of the mean square alone."""
    rates, v = np.broadcast_to(learning_rate, len(gradients)), np.zeros_like(w)

    def step(t, g, y):
        nonlocal v
        v = b2 * v + (1 - b2) * g**2
        u = g / (np.sqrt(v / (1 - b2**t)) + eps) + weight_decay * y
        return rates[t - 1], -u

    return averaging_without_schedule(w, gradients, step, **averaging)


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.contrib.schedule_free_adamw",),
    optax_twin=lambda: optax.contrib.schedule_free(
        optax.adamw(0.1, 0.0, 0.99, 1e-6, weight_decay=0.01), 0.1, 0.8
    ),
    goals={
        "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-5}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)
