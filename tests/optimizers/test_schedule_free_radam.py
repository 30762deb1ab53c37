"""`schedule_free_radam`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
from conformance.contracts import Contract, Goal
from test_schedule_free_adamw import reference as schedule_free_adamw


def reference(w, gradients, values, *, learning_rate, b2, **others):
    """Rectify the rate by the number of steps that the mean square is made of."""
    rates, last = (
        np.array(np.broadcast_to(learning_rate, len(gradients))),
        2 / (1 - b2) - 1,
    )
    for t in range(1, len(gradients) + 1):
        rho = last - 2 * t * b2**t / (1 - b2**t)
        upper, lower = (rho - 4) * (rho - 2) * last, (last - 4) * (last - 2) * rho
        rates[t - 1] *= np.sqrt(upper / lower) if rho > 4 else 0
    return schedule_free_adamw(
        w, gradients, values, learning_rate=rates, b2=b2, **others
    )


CONTRACT = Contract(
    reference,
    elementwise=True,
    breaks={"zero_gradients": "the weights decay"},
    goals={
        "quadratic": Goal(300, 1e-2, {"weight_decay": 1e-5}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.1, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)
