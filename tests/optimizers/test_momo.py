"""`momo`: its equations as a NumPy loop, and what is asked of it."""

import numpy as np
import optax
from conformance.contracts import Contract, Goal


def reference(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b=0.9,
    lower_bound=0.0,
    weight_decay=0.0,
    bias_correction=False,
    use_fstar=False,
):
    """Momentum with the step [f + ⟨d, x⟩ − k − f*]₊ / ‖d‖², capped."""
    d, f, k, bound, first = np.zeros_like(x), 0.0, 0.0, lower_bound, True
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, value, alpha) in enumerate(
        zip(gradients, values, alphas, strict=True), start=1
    ):
        if first and not bias_correction:
            d, f, k = g, value, np.sum(g * x)
        first = False
        d = b * d + (1 - b) * g
        f = b * f + (1 - b) * value
        k = b * k + (1 - b) * np.sum(g * x)
        rho = 1 - b**t if bias_correction else 1.0
        tau, bound = truncated(
            x, d, d, f, k, rho, alpha, weight_decay, bound, lower_bound, use_fstar
        )
        x = (x - tau * d) / (1 + alpha * weight_decay)
        yield x, tau * rho


def truncated(
    x, d, scaled, f, k, rho, alpha, weight_decay, bound, lower_bound, use_fstar
):
    """MoMo's step and its new bound, from biased averages."""
    decayed, norm_sq, product = (
        1 + alpha * weight_decay,
        np.sum(d * scaled),
        np.sum(d * x),
    )
    if use_fstar:
        cap = decayed * (f - k) + product
        if cap < decayed * rho * bound:
            bound = max(cap / (2 * decayed * rho), lower_bound)
    gap = max(decayed * (f - rho * bound - k) + product, 0.0)
    tau = min(alpha / rho, gap / norm_sq)
    if use_fstar:
        bound = max((f + product - k - tau * norm_sq / 2) / rho, lower_bound)
    return tau, bound


CONTRACT = Contract(
    reference,
    optax_forms=("optax.contrib.momo",),
    optax_twin=lambda: optax.contrib.momo(0.2, 0.3, -1.0),
    goals={
        "quadratic": Goal(200, 1e-2, {"lower_bound": 0.0, "weight_decay": 0.0}),
        "complex_parabola": Goal(
            500, 1e-2, {"learning_rate": 0.03, "weight_decay": 0.0}
        ),
        "complex_rosenbrock": Goal(
            2000, 0.15, {"learning_rate": 0.001, "weight_decay": 0.0}
        ),
    },
)
