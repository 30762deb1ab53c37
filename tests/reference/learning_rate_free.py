"""The learning-rate-free optimizers, written from their equations in float64.

Each gives the point after a step and the rate of that step. Averages are the biased
ones, as the papers have them; a step at a learning rate of 0 is none, as the authors'
code of Prodigy and D-Adaptation has it.
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


REFERENCES = {"dadapt_adam": dadapt_adam, "prodigy": prodigy}
