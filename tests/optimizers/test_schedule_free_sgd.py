"""`schedule_free_sgd`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal
from reference.averaging import averaging_without_schedule


def reference(w, gradients, values, *, learning_rate, weight_decay, **averaging):
    """Follow −(g + λ y) from z, and average z into x."""
    rates = np.broadcast_to(learning_rate, len(gradients))

    def step(t, g, y):
        return rates[t - 1], -(g + weight_decay * y)

    return averaging_without_schedule(w, gradients, step, **averaging)


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    optax_forms=("optax.contrib.schedule_free_sgd",),
    optax_twin=lambda: optax.contrib.schedule_free(
        optax.chain(optax.add_decayed_weights(0.01), optax.sgd(0.5)), 0.5, 0.8
    ),
    goals={
        "quadratic": Goal(200, 1e-2, {"weight_decay": 1e-5}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            2000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)
