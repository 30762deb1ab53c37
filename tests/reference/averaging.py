"""Schedule-free averaging, around a step of any kind."""


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
