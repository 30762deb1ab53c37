"""The wrappers around momentum, written from their rules in float64.

Scales are float32, as the library keeps them.
"""

import numpy as np
from scipy import special

from reference.controllers import reduce_on_plateau


class Momentum:
    """v ← b v + (1 − b) g, and the step −α v."""

    b = 0.9

    def __init__(self, w, learning_rate):
        self.v = np.zeros_like(w)
        self.learning_rate = learning_rate

    def step(self, g):
        self.v = self.b * self.v + (1 - self.b) * g
        return -self.learning_rate * self.v


def monitor(w, gradients, values, *, learning_rate):
    """Watch only."""
    inner = Momentum(w, learning_rate)
    for g in gradients:
        w = w + inner.step(g)
        yield w


def quantized(w, gradients, values, *, learning_rate, block, smallest):
    """Keep what momentum remembers in bytes, rounded by a hash of step and place."""
    inner = Momentum(w, learning_rate)
    for t, g in enumerate(gradients, start=1):
        w = w + inner.step(g)
        if w.size >= smallest:
            inner.v = in_bytes(inner.v, block, t)
        yield w


def in_bytes(x, block, step):
    """Round to s (q/255)⁴, or s sign(q) (q/127)² in blocks with negative numbers."""
    result = np.empty_like(x)
    for row, start in enumerate(range(0, x.size, block)):
        part = x[start : start + block]
        size, signed = abs(part).max(), (part < 0).any()
        levels, power = (127, 2) if signed else (255, 4)
        for column, number in enumerate(part):
            share = abs(number) / size if size else 0.0
            below = min(np.floor(levels * share ** (1 / power)), levels - 1)
            low, high = ((code / levels) ** power for code in (below, below + 1))
            code = below + ((share - low) / (high - low) > dither(step, row, column))
            if number > 0 and not signed:
                code = max(code, 1)
            value = size * np.sign(number) * (code / levels) ** power
            result[start + column] = value
    return result


def dither(step, row, column):
    """Return a number in [2⁻¹², 1 − 2⁻¹²]."""
    turn = step * 0x9E3779B1 + row * 0x85EBCA6B + column * 0xC2B2AE35
    return 2**-12 + (1 - 2**-11) * (turn % 2**32 >> 8) / 2**24


def iterate_average(w, gradients, values, *, learning_rate, gamma, decay=None):
    """Watch only; see `averages_of_iterates` for what is evaluated."""
    del gamma, decay
    return monitor(w, gradients, values, learning_rate=learning_rate)


def packed(w, gradients, values, *, learning_rate):
    """Lay out otherwise."""
    return monitor(w, gradients, values, learning_rate=learning_rate)


def mechanic(
    w, gradients, values, *, learning_rate, initial_scale, weight_decay, eps, betas
):
    """Learn by how much to scale the path of momentum."""
    n, beta = len(betas), np.array(betas)
    s, r, m, v = np.zeros((4, n))

    def tune(g, path, w):
        nonlocal s, r, m, v
        size = weight_decay * s.sum() * np.linalg.norm(g) / np.linalg.norm(w)
        h = (g + size * w) @ path
        m = np.maximum(beta * m, abs(h))
        v = beta**2 * v + h**2
        r = np.maximum(0, beta * r - s * h)
        s = (initial_scale / n * m + r) / (np.sqrt(v) + eps)
        return s.sum()

    return scaled_path(w, gradients, learning_rate, tune)


def trac(w, gradients, values, *, learning_rate, initial_scale, betas):
    """Scale the path of momentum by an error function of how it came out."""
    beta = np.array(betas)
    sigma, v = np.zeros((2, len(betas)))

    def tune(g, path, w):
        nonlocal sigma, v
        h = g @ path
        v = beta**2 * v + h**2
        sigma = beta * sigma - h
        z = sigma / np.sqrt(2 * np.where(v > 0, v, 1))
        s = initial_scale * special.erfi(z) / special.erfi(np.sqrt(0.5))
        return max(s.sum(), 0)

    return scaled_path(w, gradients, learning_rate, tune)


def scaled_path(w, gradients, learning_rate, tune):
    """Go along S times the path of momentum; give S times its rate as well."""
    start, path, inner = w, np.zeros_like(w), Momentum(w, 1.0)
    for g, rate in zip(
        gradients, np.broadcast_to(learning_rate, len(gradients)), strict=True
    ):
        scale = tune(g, path, w)
        path = path + rate * inner.step(g)
        w = start + scale * path
        yield w, scale * rate


def averages_of_iterates(points, *, gamma, decay=None):
    """Average the points so far with the weights that each average gives them."""
    for t in range(1, len(points) + 1):
        if decay is not None:
            weights = decay ** np.arange(t)[::-1]
        else:
            weights = np.ones(t)
            for s in range(t):  # what is left of a point after the later ones
                weights[s] = (1 + gamma) / (s + 1 + gamma)
                weights[:s] *= 1 - weights[s]
        yield weights @ points[:t] / weights.sum()


def accumulate(w, gradients, values, *, learning_rate, every):
    """Step with the mean of so many gradients."""
    inner, waiting = Momentum(w, learning_rate), []
    for g in gradients:
        waiting.append(g)
        if len(waiting) == every:
            w = w + inner.step(sum(waiting) / every)
            waiting = []
        yield w


def schedule_free(w, gradients, values, *, learning_rate, b1, weight_power, step_power):
    """Average the points of momentum; its rate is its own, and γ is 1."""
    inner, rates = Momentum(w, 1.0), np.broadcast_to(learning_rate, len(gradients))
    points = averaging_without_schedule(
        w,
        gradients,
        lambda t, g, y: (1.0, rates[t - 1] * inner.step(g)),
        b1=b1,
        weight_power=weight_power,
        step_power=step_power,
    )
    for (point, _), rate in zip(points, rates, strict=True):
        yield point, rate


def averaging_without_schedule(w, gradients, step, *, b1, weight_power, step_power):
    """Follow `step(t, g, y)`, which gives γ and the update at y; give y and γ."""
    x = y = z = w
    largest, total = 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        rate, u = step(t, g, y)
        largest = max(largest, rate)
        weight = t**step_power * largest**weight_power
        total += weight
        z = z + rate * u
        x = x + (weight / total if total else 0) * (z - x)
        y = (1 - b1) * z + b1 * x
        yield y, rate


def spike_guard(
    w,
    gradients,
    values,
    *,
    learning_rate,
    sigma,
    patience,
    factor,
    recovery,
    min_scale,
    min_deviation,
    window=128,
):
    """Skip what lies σ deviations above the mean of the latest accepted steps."""
    inner, scale, recent, in_a_row = Momentum(w, learning_rate), np.float32(1), [], 0
    for g, value in zip(gradients, values, strict=True):
        pair = np.array([np.sqrt(np.sum(g**2)), value])
        spike = False
        if len(recent) == window:
            mean, deviation = np.mean(recent, axis=0), np.std(recent, axis=0)
            deviation = np.maximum(deviation, min_deviation * abs(mean))
            spike = np.any(pair > mean + sigma * deviation)
        if spike or not np.all(np.isfinite(pair)):
            in_a_row += 1
            if in_a_row % patience == 0:
                scale = max(scale * np.float32(factor), np.float32(min_scale))
                if spike:
                    recent = []
        else:
            in_a_row = 0
            scale = min(scale * np.float32(recovery), np.float32(1))
            recent = [*recent, pair][-window:]
            w = w + scale * inner.step(g)
        yield w


def reject_increase(
    w,
    gradients,
    values,
    *,
    learning_rate,
    tolerance,
    decrease,
    increase,
    min_scale,
    max_scale,
    decay,
    restart=False,
):
    """Go back where the loss rose by more than the tolerance."""
    inner, scale, saved = Momentum(w, learning_rate), np.float32(1), None
    returned, total, weights = False, 0.0, 0.0
    for g, value in zip(gradients, values, strict=True):
        if saved is not None and not returned:
            before = saved[0]
            if value > before + (tolerance - 1) * abs(before):
                _, w, inner.v = saved
                if restart:
                    inner = Momentum(w, learning_rate)
                scale = max(scale * np.float32(decrease), np.float32(min_scale))
                returned = True
                yield w
                continue
            if value < before:
                scale = min(scale * np.float32(increase), np.float32(max_scale))
        returned = False
        total, weights = decay * total + value, decay * weights + 1
        saved = total / weights, w, inner.v
        w = w + scale * inner.step(g)
        yield w


def restore_best(
    w,
    gradients,
    values,
    *,
    learning_rate,
    restart=True,
    factor=0.1,
    patience=10,
    threshold=1e-4,
):
    """Go back to the best point where the plateau cuts the scale."""
    inner, seen, scale, best, returned = (
        Momentum(w, learning_rate),
        [],
        1.0,
        None,
        False,
    )
    plateau = reduce_on_plateau(
        iter(seen.pop, None), factor=factor, patience=patience, threshold=threshold
    )
    for g, value in zip(gradients, values, strict=True):
        cut = False
        if not returned:
            if best is None or value < best[0] - threshold * abs(best[0]):
                best = value, w
            seen.append(value)
            before, scale = scale, next(plateau)
            cut = scale < before
        returned = cut
        if cut:
            _, w = best
            inner = Momentum(w, learning_rate) if restart else inner
        else:
            w = w + float(np.float32(scale)) * inner.step(g)
        yield w


REFERENCES = {
    "accumulate": accumulate,
    "iterate_average": iterate_average,
    "mechanic": mechanic,
    "monitor": monitor,
    "quantized": quantized,
    "packed": packed,
    "schedule_free": schedule_free,
    "spike_guard": spike_guard,
    "reject_increase": reject_increase,
    "restore_best": restore_best,
    "trac": trac,
}
