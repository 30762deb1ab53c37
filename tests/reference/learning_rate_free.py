"""The learning-rate-free optimizers, written from their equations in float64.

Each gives the point after a step and, if it has one, the rate of that step. Averages
are the biased ones, as the papers have them; a step at a learning rate of 0 is none, as
the authors' code of Prodigy and D-Adaptation has it.
"""

import numpy as np


def prodigy(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    b3=None,
    eps=1e-8,
    d0=1e-6,
    d_coef=1.0,
    weight_decay=0.0,
    growth=None,
    freeze_after=None,
    bias_correction=False,
    safeguard_warmup=False,
    slice_p=1,
):
    """Adam at the rate α d, where d ← max(d, κ r / ‖s‖₁).

    Leaves are sliced each for itself; a p that divides the size of all but the last is
    that of the whole.
    """
    b3 = np.sqrt(b2) if b3 is None else b3
    growth = np.inf if growth is None else growth
    x0, m, v, r, s = x, np.zeros_like(x), np.zeros_like(x), 0.0, np.zeros_like(x)
    d = largest = d0
    alphas = np.broadcast_to(learning_rate, len(gradients))
    t = 0
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        t += 1
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        gamma = alpha * d * c
        r = b3 * r + d / d0 * gamma * np.sum((g * (x0 - x))[::slice_p])
        s = b3 * s + d / d0 * (d if safeguard_warmup else gamma) * g
        m = b1 * m + (1 - b1) * d * g
        v = b2 * v + (1 - b2) * d**2 * g**2
        estimate = d_coef * r / np.sum(np.abs(s[::slice_p]))
        if freeze_after is None or t <= freeze_after:
            leapt = max(d, estimate) if d == d0 else d
            largest = max(largest, estimate)
            d = min(largest, leapt * growth)
        x = x - gamma * (m / (np.sqrt(v) + d * eps) + weight_decay * x)
        yield x, gamma


def dadapt_adam(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    d0=1e-6,
    weight_decay=0.0,
    growth=None,
    bias_correction=False,
):
    """Adam at the rate α d, where d ← max(d, r / ((1 − √β₂) ‖s‖₁))."""
    growth = np.inf if growth is None else growth
    b3, d, r, t = np.sqrt(b2), d0, 0.0, 0
    m, v, s = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        t += 1
        c = np.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1.0
        gamma = alpha * d * c
        r = b3 * r + (1 - b3) * gamma * np.sum(g * s / (np.sqrt(v) + eps))
        m = b1 * m + (1 - b1) * gamma * g
        v = b2 * v + (1 - b2) * g**2
        s = b3 * s + (1 - b3) * gamma * g
        estimate = r / ((1 - b3) * np.sum(np.abs(s)))
        d = max(d, min(estimate, d * growth))
        x = x - m / (np.sqrt(v) + eps) - gamma * weight_decay * x
        yield x, gamma


def momo(
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
        yield x, tau * rho  # the rate of the average without bias, d / ρ


def momo_adam(
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


def cocob(x, gradients, values, *, alpha=100.0, eps=1e-8):
    """Bet on each coordinate; there is no rate to give."""
    x0, largest = x, np.full_like(x, eps)
    total, theta, reward = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for g in gradients:
        largest = np.maximum(largest, np.abs(g))
        total = total + np.abs(g)
        theta = theta - g
        reward = np.maximum(reward - g * (x - x0), 0)
        bound = np.maximum(total + largest, alpha * largest)
        x = x0 + theta / (largest * bound) * (reward + largest)
        yield x


def adamg(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.95,
    b2=0.999,
    b3=0.95,
    eps=1e-8,
    p=0.2,
    q=0.24,
):
    """Adam of the gradient times an average of p vᵠ, at the rate min(α, 1/√t)."""
    v, r, m = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for t, (g, alpha) in enumerate(zip(gradients, alphas, strict=True), start=1):
        v = b2 * v + (1 - b2) * g**2
        r = b3 * r + (1 - b3) * p * v**q
        m = b1 * m + (1 - b1) * r * g
        gamma = min(alpha, 1 / np.sqrt(t))
        x = x - gamma * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        yield x, gamma


def dadapt_sgd(x, gradients, values, *, learning_rate=1.0, b=0.0, d0=1e-6, growth=None):
    """Dual averaging from x₀ at the rate α d / ‖g₀‖, where d ← max(d, 2 r / ‖s‖)."""
    growth = np.inf if growth is None else growth
    x0, s, r, d, first_norm = x, np.zeros_like(x), 0.0, d0, None
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        if first_norm is None:
            first_norm = np.sqrt(np.sum(g**2))
        gamma = alpha * d / first_norm
        r = r + gamma * np.sum(g * s)
        s = s + gamma * g
        d = max(d, min(2 * r / np.sqrt(np.sum(s**2)), d * growth))
        x = b * x + (1 - b) * (x0 - s)
        yield x, gamma


def dadapt_lion(
    x,
    gradients,
    values,
    *,
    learning_rate=1.0,
    b1=0.9,
    b2=0.99,
    d0=1e-6,
    weight_decay=0.0,
    growth=None,
):
    """Lion at the rate α d, where d ← max(d, r / ((1 − √β₂) ‖s‖₁))."""
    growth = np.inf if growth is None else growth
    b3, d, r, m, s = np.sqrt(b2), d0, 0.0, np.zeros_like(x), np.zeros_like(x)
    alphas = np.broadcast_to(learning_rate, len(gradients))
    for g, alpha in zip(gradients, alphas, strict=True):
        if alpha == 0:
            yield x, 0.0
            continue
        gamma = alpha * d
        u = np.sign(b1 * m + (1 - b1) * g)
        m = b2 * m + (1 - b2) * gamma * g
        r = b3 * r + (1 - b3) * gamma * np.sum(u * s)
        s = b3 * s + (1 - b3) * gamma * u
        estimate = r / ((1 - b3) * np.sum(np.abs(s)))
        d = max(d, min(estimate, d * growth))
        x = x - gamma * weight_decay * x - gamma * u
        yield x, gamma


def schedule_free_polyak(
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


REFERENCES = {
    "schedule_free_polyak": schedule_free_polyak,
    "adamg": adamg,
    "dadapt_lion": dadapt_lion,
    "dadapt_sgd": dadapt_sgd,
    "cocob": cocob,
    "dadapt_adam": dadapt_adam,
    "momo": momo,
    "momo_adam": momo_adam,
    "prodigy": prodigy,
}
