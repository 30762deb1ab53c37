"""The optimizers of the literature, written from their equations in float64.

Averages are the biased ones, divided by 1 − βᵗ where the equation says so, in contrast
to the library, which keeps them without bias.
"""

import numpy as np


def gradient_descent(w, gradients, values, *, learning_rate):
    """w ← w − α g."""
    for g in gradients:
        w = w - learning_rate * g
        yield w


def momentum(w, gradients, values, *, learning_rate, b, dampening=None, nesterov=False):
    """v ← b v + (1 − d) g;  w ← w − α v."""
    d = b if dampening is None else dampening
    v = np.zeros_like(w)
    for g in gradients:
        v = b * v + (1 - d) * g
        w = w - learning_rate * (b * v + (1 - d) * g if nesterov else v)
        yield w


def adagrad(
    w, gradients, values, *, learning_rate, initial_sum=0.0, eps=0.0, eps_root=1e-8
):
    """G ← G + g²;  w ← w − α g / (√(G + ε₀) + ε)."""
    G = np.full_like(w, initial_sum)
    for g in gradients:
        G = G + g**2
        w = w - learning_rate * g / (np.sqrt(G + eps_root) + eps)
        yield w


def rmsprop(
    w,
    gradients,
    values,
    *,
    learning_rate,
    decay,
    momentum=None,
    centered=False,
    debias=False,
    eps=0.0,
    eps_root=1e-8,
):
    """s ← ρ s + (1 − ρ) g²;  m ← β m + (1 − β) g;  w ← w − α m / (√(s + ε₀) + ε)."""
    beta = 0.0 if momentum is None else momentum
    s, m, mean = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        s = decay * s + (1 - decay) * g**2
        m = beta * m + (1 - beta) * g
        mean = decay * mean + (1 - decay) * g
        s_hat, m_hat, mean_hat = s, m, mean
        if debias:
            s_hat, mean_hat = s / (1 - decay**t), mean / (1 - decay**t)
            m_hat = m / (1 - beta**t)
        spread = s_hat - mean_hat**2 if centered else s_hat
        w = w - learning_rate * m_hat / (np.sqrt(spread + eps_root) + eps)
        yield w


def adam(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b1,
    b2,
    eps=1e-8,
    eps_root=0.0,
    nesterov=False,
    amsgrad=False,
    weight_decay=0.0,
):
    """w ← w − α (m̂ / (√(v̂ + ε₀) + ε) + λ w), where m̂ and v̂ are debiased averages."""
    m, v, largest = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        if nesterov:
            m_hat = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        largest = np.maximum(largest, v_hat)
        divisor = np.sqrt((largest if amsgrad else v_hat) + eps_root) + eps
        w = w - learning_rate * (m_hat / divisor + weight_decay * w)
        yield w


def lion(w, gradients, values, *, learning_rate, b1, b2, weight_decay):
    """w ← w − α (sign(β₁ m + (1 − β₁) g) + λ w);  m ← β₂ m + (1 − β₂) g."""
    m = np.zeros_like(w)
    for g in gradients:
        u = np.sign(b1 * m + (1 - b1) * g)
        w = w - learning_rate * (u + weight_decay * w)
        m = b2 * m + (1 - b2) * g
        yield w


REFERENCES = {
    "gradient_descent": gradient_descent,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,
    "lion": lion,
}
