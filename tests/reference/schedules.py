"""The schedules of the literature, written from their equations in float64.

Each takes one step, a whole number from 0, and the arguments of the factory.
"""

import math
import statistics


def constant(step, *, value):
    """η₀."""
    return value


def exponential_decay(
    step, *, initial, decay_rate, decay_steps=1, staircase=False, end=0.0
):
    """max(η₀ r^(t/s), η_end)."""
    exponent = step // decay_steps if staircase else step / decay_steps
    return max(initial * decay_rate**exponent, end)


def compound_decay(step, *, initial, rate, periods=1):
    """η₀ (1 + r/s)^(−s t)."""
    return initial * (1 + rate / periods) ** (-periods * step)


def inverse_sqrt(step, *, initial, rate=1.0, warmup_steps=0):
    """η₀ / √(1 + α (t − w)) after a rise to η₀ at step w."""
    if step < warmup_steps:
        return initial * step / warmup_steps
    return initial / math.sqrt(1 + rate * (step - warmup_steps))


def inverse_time(step, *, initial, rate, every=1):
    """η₀ / (1 + κ k⌊t/k⌋)."""
    return initial / (1 + rate * every * (step // every))


def power_decay(step, *, initial, power, rate=1.0):
    """η₀ (1 + α t)^(−p)."""
    return initial * (1 + rate * step) ** -power


def linear(step, *, initial, total_steps, end=0.0):
    """η₀ − (t/T) η₀, ended at η_end."""
    return (
        end if step >= total_steps else initial + (end - initial) * step / total_steps
    )


def polynomial(step, *, initial, total_steps, power, end=0.0):
    """η_end + (η₀ − η_end) (1 − t/T)^p."""
    if step >= total_steps:
        return end
    return end + (initial - end) * (1 - step / total_steps) ** power


def rex(step, *, initial, total_steps, end=0.0):
    """η_end + (η₀ − η_end) (1 − x) / (½ + ½ (1 − x))."""
    x = min(step / total_steps, 1)
    return end + (initial - end) * (1 - x) / (1 / 2 + (1 - x) / 2)


def step_decay(step, *, initial, factor, every):
    """η₀ f^⌊t/k⌋, by multiplying."""
    for _ in range(int(step // every)):
        initial *= factor
    return initial


def piecewise(step, *, initial, boundaries, factors):
    """η₀, multiplied by each factor whose boundary has been reached."""
    for boundary, factor in zip(boundaries, factors, strict=True):
        if step >= boundary:
            initial *= factor
    return initial


def cosine(step, *, peak, total_steps, warmup_steps=0, end=0.0):
    """A rise to the peak at step w, and half a cosine down to step T."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    if step >= total_steps:
        return end
    angle = math.pi * (step - warmup_steps) / (total_steps - warmup_steps)
    return end + (peak - end) * (1 + math.cos(angle)) / 2


def cosine_restarts(
    step,
    *,
    peak,
    first_cycle,
    cycle_mult=1.0,
    peak_decay=1.0,
    end=0.0,
    warmup_steps=0,
    start=0.0,
):
    """Half cosines one after the other, by walking through the cycles."""
    length = first_cycle
    while step >= length:
        step, length = step - length, length * cycle_mult
        peak = max(peak * peak_decay, end)
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    part = (step - warmup_steps) / (length - warmup_steps)
    return end + (peak - end) * (1 + math.cos(math.pi * part)) / 2


def cyclic(
    step, *, low, high, half_cycle, fall_steps=None, mode="triangular", gamma=1.0
):
    """The formulas as printed by Smith (2017), each half of its own length."""
    fall = fall_steps or half_cycle
    cycle = 1 + step // (half_cycle + fall)
    x = step % (half_cycle + fall)
    height = (high - low) * min(x / half_cycle, 1 - (x - half_cycle) / fall)
    scales = {
        "triangular": 1,
        "triangular2": 2.0 ** (1 - cycle),
        "exp_range": gamma**step,
    }
    return low + height * scales[mode]


def one_cycle(
    step,
    *,
    peak,
    total_steps,
    start_fraction=0.3,
    div_factor=25.0,
    final_div_factor=1e4,
    anneal="cosine",
):
    """From η_peak/d to η_peak in φT steps, then to η_peak/(d D) at step T."""
    turn = start_fraction * total_steps
    first = peak / div_factor
    last = first / final_div_factor
    if step >= total_steps:
        return last
    if step < turn:
        left, right, part = first, peak, step / turn
    else:
        left, right, part = peak, last, (step - turn) / (total_steps - turn)
    if anneal == "cosine":
        return right + (left - right) * (1 + math.cos(math.pi * part)) / 2
    return left + (right - left) * part


def warmup_stable_decay(
    step,
    *,
    peak,
    total_steps,
    warmup_steps,
    decay_steps,
    shape="linear",
    end=0.0,
):
    """A trapezoid whose last side has a shape."""
    if step >= total_steps:
        return end
    if step < warmup_steps:
        return peak * step / warmup_steps
    if step < total_steps - decay_steps:
        return peak
    x = (step - (total_steps - decay_steps)) / decay_steps
    cosine = (1 + math.cos(math.pi * x)) / 2
    left = {
        "linear": 1 - x,
        "cosine": cosine,
        "mirror_cosine": 2 * (1 - x) - cosine,
        "sqrt": 1 - math.sqrt(x),
        "square": 1 - x**2,
        "exponential": (0.01**x - 0.01) / 0.99,
    }
    return end + (peak - end) * left[shape]


def warmup(step, *, schedule, steps, start=0.0):
    """From a to the schedule's first rate, then the schedule."""
    if step < steps:
        return start + (float(schedule(0)) - start) * step / steps
    return float(schedule(step - steps))


def refine(
    step,
    *,
    grad_norms,
    peak=1.0,
    total_steps=None,
    norm="l2",
    padding="reflect",
):
    """Algorithm 1 of Defazio et al. (2023), one sum after the other."""
    n, half = len(grad_norms), len(grad_norms) // 20

    def at(i):
        if padding == "nearest":
            return grad_norms[min(max(i, 0), n - 1)]
        return grad_norms[-1 - i if i < 0 else 2 * n - 1 - i if i >= n else i]

    smooth = [
        statistics.median(at(j) for j in range(i - half, i + half + 1))
        for i in range(n)
    ]
    weights = [1 / (g**2 if norm == "l2" else g) for g in smooth]
    rates = [weights[i] * sum(weights[i + 1 :]) for i in range(n)]
    rates = [peak * rate / max(rates) for rate in rates] + [0.0]
    place = min(step * n / (total_steps or n), n)
    i = min(int(place), n - 1)
    return rates[i] + (rates[i + 1] - rates[i]) * (place - i)


REFERENCES = {
    function.__name__: function
    for function in (
        constant,
        exponential_decay,
        compound_decay,
        inverse_sqrt,
        inverse_time,
        power_decay,
        linear,
        polynomial,
        rex,
        step_decay,
        piecewise,
        cosine,
        cosine_restarts,
        cyclic,
        one_cycle,
        warmup_stable_decay,
        warmup,
        refine,
    )
}
