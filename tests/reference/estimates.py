"""The learning-rate-free estimates, written from their papers in float64.

Each goes along the gradients given from a first point, and gives every point after it.
The optimizers without a schedule give the rate of each step as well.
"""

import numpy as np
from conformance.problems import SHAPES

from reference.wrappers import averaging_without_schedule


def adgd(w, gradients, values, *, initial, tight=False):
    """Take half the inverse curvature, but for a growth of √(1 + θ)."""
    rate, growth, before = initial, 1e9, None
    for g in gradients:
        moved = 0 if before is None else np.linalg.norm(w - before[0])
        if moved > 0:
            square = 4 * np.sum((g - before[1]) ** 2)
            if tight:
                square = 3 * (g @ g) - 4 * (g @ before[1])
            last, rate = rate, np.sqrt(1 + growth) * rate
            if square > 0:
                rate = min(rate, moved / np.sqrt(square))
            growth = rate / last
        before = w, g
        w = w - rate * g
        yield w


def adgd2(w, gradients, values, *, initial):
    """Let the rate grow by √(2/3 + θ), as long as 2 λ² L² <= 1."""
    rate, growth, before = initial, 1 / 3, None
    for g in gradients:
        moved = 0 if before is None else np.linalg.norm(w - before[0])
        if moved > 0:
            curvature = np.linalg.norm(g - before[1]) / moved
            excess = 2 * rate**2 * curvature**2 - 1
            last, rate = rate, np.sqrt(2 / 3 + growth) * rate
            if excess > 0:
                rate = min(rate, last / np.sqrt(excess))
            growth = rate / last
        before = w, g
        w = w - rate * g
        yield w


def cdat(w, gradients, values, *, sigma, decay, eps, curvatures=0.0):
    """Divide the average slope along the gradient by the average curvature."""
    slope = curvature = 0.0
    for g in gradients:
        slope = decay * slope + (1 - decay) * max(g @ g, 0)
        curvature = decay * curvature + (1 - decay) * (abs(g @ (curvatures * g)) + eps)
        w = w - sigma * slope / curvature * g
        yield w


def dog(w, gradients, values, *, reps_rel, eps):
    """Divide the largest distance from the start by the root of the summed squares."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), eps
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += g @ g
        w = w - distance / np.sqrt(total) * g
        yield w


def l_dog(w, gradients, values, *, reps_rel, eps):
    """Do so in each leaf: the matrix, and the scalar that comes last."""
    size = np.prod(SHAPES["matrix"])
    leaves = [
        dog(w[part], gradients[:, part], values, reps_rel=reps_rel, eps=eps)
        for part in (slice(0, size), slice(size, None))
    ]
    for points in zip(*leaves, strict=True):
        yield np.concatenate(points)


def dowg(w, gradients, values, *, reps_rel):
    """Weigh each square by the squared distance that was covered then."""
    start, distance, total = w, reps_rel * (1 + np.linalg.norm(w)), 0.0
    for g in gradients:
        distance = max(distance, np.linalg.norm(w - start))
        total += distance**2 * (g @ g)
        w = w - distance**2 / np.sqrt(total) * g
        yield w


def polyak(w, gradients, values, *, max_rate, c, lower_bound, eps, growth, soft=False):
    """Divide what the loss may still fall by the squared gradient."""
    cap = max_rate
    for g, value in zip(gradients, values, strict=True):
        rate = max(value - lower_bound, 0) / (c * (g @ g) + eps)
        if max_rate is not None:
            limit = cap * growth if growth else max_rate
            rate = rate * limit / (rate + limit) if soft else min(rate, limit)
        if rate > 0:
            cap = rate
        w = w - rate * g
        yield w


def line_search(
    w,
    gradients,
    values,
    *,
    initial,
    c,
    decrease,
    increase,
    max_rate,
    max_trials,
    tolerance,
    test="armijo",
):
    """Try rates on a loss of curvature 1; where one is too small, double it."""
    accepted = initial
    for g, value in zip(gradients, values, strict=True):
        slope = g @ g
        rate, trials = min(accepted * increase, max_rate), 1
        while True:
            loss = value - rate * slope + rate**2 * slope / 2
            good = loss <= value - c * rate * slope + tolerance * abs(value)
            short = loss < value - (1 - c) * rate * slope and rate < max_rate
            short = good and short and test == "goldstein"
            if (good and not short) or trials == max_trials:
                break
            rate = min(2 * rate, max_rate) if short else rate * decrease
            trials += 1
        accepted = rate
        w = w - (rate if good else 0.0) * g
        yield w


def schedule_free_sgd(
    w, gradients, values, *, learning_rate, weight_decay, **averaging
):
    """Follow −(g + λ y) from z, and average z into x."""
    rates = np.broadcast_to(learning_rate, len(gradients))

    def step(t, g, y):
        return rates[t - 1], -(g + weight_decay * y)

    return averaging_without_schedule(w, gradients, step, **averaging)


def schedule_free_adamw(
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


def schedule_free_radam(w, gradients, values, *, learning_rate, b2, **others):
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


REFERENCES = {
    "adgd": adgd,
    "adgd2": adgd2,
    "cdat": cdat,
    "dog": dog,
    "dowg": dowg,
    "l_dog": l_dog,
    "line_search": line_search,
    "polyak": polyak,
}

OPTIMIZERS = {
    "schedule_free_adamw": schedule_free_adamw,
    "schedule_free_radam": schedule_free_radam,
    "schedule_free_sgd": schedule_free_sgd,
}
