"""The optimizers of the literature, written from their equations in float64.

Averages are the biased ones, divided by 1 − βᵗ where the equation says so, in contrast
to the library, which keeps them without bias.
"""

import numpy as np

MATRIX, SCALAR = slice(0, 16), slice(16, 17)
"""Where the leaves of the toy problems are, for methods that take each as a whole."""


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


def adabelief(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root):
    """s ← β₂ s + (1 − β₂) (g − m)² + ε₀;  w ← w − α m̂ / (√ŝ + ε)."""
    m, s = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps_root
        m_hat, s_hat = m / (1 - b1**t), s / (1 - b2**t)
        w = w - learning_rate * m_hat / (np.sqrt(s_hat) + eps)
        yield w


def radam(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root, threshold):
    """w ← w − α r m̂ / (√(v̂ + ε₀) + ε) where ρ >= threshold, else w ← w − α m̂."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    longest = 2 / (1 - b2) - 1
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        step = m / (1 - b1**t)
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length >= threshold:
            above = (length - 4) * (length - 2) * longest
            below = (longest - 4) * (longest - 2) * length
            v_hat = v / (1 - b2**t)
            step = np.sqrt(above / below) * step / (np.sqrt(v_hat + eps_root) + eps)
        w = w - learning_rate * step
        yield w


def nadam(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root):
    """w ← w − α (β₁ m/(1−β₁ᵗ⁺¹) + (1−β₁) g/(1−β₁ᵗ)) / (√(v̂ + ε₀) + ε)."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        divisor = np.sqrt(v / (1 - b2**t) + eps_root) + eps
        w = w - learning_rate * ahead / divisor
        yield w


def lamb(w, gradients, values, *, learning_rate, b1, b2, eps, eps_root, weight_decay):
    """u = m̂ / (√(v̂ + ε₀) + ε) + λ w;  w ← w − α ‖w‖/‖u‖ u in each leaf."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
        u = m_hat / (np.sqrt(v_hat + eps_root) + eps) + weight_decay * w
        w = w.copy()
        for leaf in (MATRIX, SCALAR):
            ratio = np.linalg.norm(w[leaf]) / np.linalg.norm(u[leaf])
            w[leaf] -= learning_rate * ratio * u[leaf]
        yield w


def adopt(w, gradients, values, *, learning_rate, b1, b2, eps):
    """m ← β₁ m + (1 − β₁) clip(g / max(√v, ε), ±t^¼);  w ← w − α m; then v."""
    m, v = np.zeros_like(w), None
    for t, g in enumerate(gradients):
        if v is None:
            v = g**2
        else:
            clipped = np.clip(g / np.maximum(np.sqrt(v), eps), -(t**0.25), t**0.25)
            m = b1 * m + (1 - b1) * clipped
            w = w - learning_rate * m
            v = b2 * v + (1 - b2) * g**2
        yield w


def ademamix(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b1,
    b2,
    b3,
    alpha,
    eps,
    eps_root,
    weight_decay,
    warmup_steps,
):
    """w ← w − α ((m̂ + a k) / (√(v̂ + ε₀) + ε) + λ w)."""
    m, k, v = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        a, b = alpha, b3
        if t < warmup_steps:
            r = t / warmup_steps
            a = alpha * r
            start, end = np.log(b1), np.log(b3)
            b = np.exp(start * end / ((1 - r) * end + r * start))
        m = b1 * m + (1 - b1) * g
        k = b * k + (1 - b) * g
        v = b2 * v + (1 - b2) * g**2
        divisor = np.sqrt(v / (1 - b2**t) + eps_root) + eps
        step = (m / (1 - b1**t) + a * k) / divisor
        w = w - learning_rate * (step + weight_decay * w)
        yield w


def adan(
    w, gradients, values, *, learning_rate, b1, b2, b3, eps, eps_root, weight_decay
):
    """w ← w − α ((m̂ + β₂ ŷ) / (√(v̂ + ε₀) + ε) + λ w), y the average of the changes."""
    m, y, v, before = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), None
    for t, g in enumerate(gradients, start=1):
        d = np.zeros_like(g) if before is None else g - before
        before = g
        m = b1 * m + (1 - b1) * g
        y = b2 * y + (1 - b2) * d
        v = b3 * v + (1 - b3) * (g + b2 * d) ** 2
        m_hat, y_hat, v_hat = m / (1 - b1**t), y / (1 - b2**t), v / (1 - b3**t)
        step = (m_hat + b2 * y_hat) / (np.sqrt(v_hat + eps_root) + eps)
        w = w - learning_rate * (step + weight_decay * w)
        yield w


def muon(
    w,
    gradients,
    values,
    *,
    learning_rate,
    b,
    b1,
    b2,
    eps,
    eps_root,
    weight_decay,
    consistent_rms=None,
    other_scale=1.0,
):
    """W ← W − α (s O + λ W), O from five iterations; for the scalar it is AdamW."""
    numbers = {"b1": b1, "b2": b2, "eps": eps, "eps_root": eps_root}
    average = np.zeros((8, 2))
    free = adam(np.zeros(1), gradients[:, SCALAR], values, learning_rate=1, **numbers)
    before = np.zeros(1)
    for t, g in enumerate(gradients, start=1):
        G = g[MATRIX].reshape(8, 2)
        average = b * average + (1 - b) * G
        X = b * average / (1 - b ** (t + 1)) + (1 - b) * G / (1 - b**t)
        X = X / (np.linalg.norm(X) + eps)
        for _ in range(5):
            S = X @ X.T
            X = 3.4445 * X + (-4.7750 * S + 2.0315 * S @ S) @ X
        scale = 1 if consistent_rms is None else consistent_rms * np.sqrt(8)
        after = next(free)
        adams = (before - after) * other_scale
        before = after
        step = np.concatenate([scale * X.ravel(), adams])
        w = w - learning_rate * (step + weight_decay * w)
        yield w


REFERENCES = {
    "gradient_descent": gradient_descent,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,
    "lion": lion,
    "adabelief": adabelief,
    "radam": radam,
    "nadam": nadam,
    "lamb": lamb,
    "adopt": adopt,
    "ademamix": ademamix,
    "adan": adan,
    "muon": muon,
}
