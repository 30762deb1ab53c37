"""`momo_adam`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal
from test_momo import truncated


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1e-2,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    lower_bound=0.0,
    weight_decay=0.0,
    use_fstar=False,
):
    """Adam with the step [f + ⟨d, x⟩ − k − f*]₊ / ‖d‖², capped, in the norm of 1/D."""
    d, v, f, k, bound = np.zeros_like(x), np.zeros_like(x), 0.0, 0.0, lower_bound
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, value, alpha) in enumerate(
        zip(gradients, values, alphas, strict=True), start=1
    ):
        d = b1 * d + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        f = b1 * f + (1 - b1) * value
        k = b1 * k + (1 - b1) * np.sum(g * x)
        scaled, rho = d / (eps + np.sqrt(v / (1 - b2**t))), 1 - b1**t
        tau, bound = truncated(
            x, d, scaled, f, k, rho, alpha, weight_decay, bound, lower_bound, use_fstar
        )
        x = (x - tau * scaled) / (1 + alpha * weight_decay)
        yield x, tau * rho


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.momo_adam",),
    optax_twin=lambda: optax.contrib.momo_adam(0.3, 0.5, 0.99, 1e-6, -1.0),
    goals={
        "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.1, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            1000, 0.05, {"learning_rate": 0.003, "weight_decay": 0.0}
        ),
    },
)
