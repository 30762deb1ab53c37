"""The controllers, written from their rules in float64."""

import math

import numpy as np

import adaptax


def reduce_on_plateau(
    metrics,
    gradients=None,
    *,
    factor,
    patience,
    threshold,
    cooldown=0,
    min_scale=0.0,
    window=1,
    trend_errors=2.0,
    trend=None,
    threshold_mode=None,
    mode="min",
    convention="adaptax",
):
    """Cut the scale after more than `patience` evaluations that do not improve."""
    del gradients
    absolute = (threshold_mode or convention) in ("absolute", "keras")
    sign = 1 if mode == "min" else -1
    best, bad, cooling, scale, recent = None, 0, 0, 1.0, []
    for mean in means_over(window, metrics):
        if mean is not None:
            mean = sign * mean
            if best is None:
                improved = True
            elif absolute:
                improved = mean < best - threshold
            elif convention == "adaptax":
                improved = mean < best - threshold * abs(best)
            elif convention == "torch":
                improved = mean < best * (1 - sign * threshold)
            else:
                improved = mean < best * (1 - threshold)
            recent.append(mean)
            falling = trend and falls(recent, trend, threshold, trend_errors, absolute)
            if improved:
                best = mean
            waiting = cooling > 0
            cooling = max(cooling - 1, 0)
            if convention == "keras":
                waiting = cooling > 0
            bad = 0 if improved or falling or waiting else bad + 1
            fires = {
                "adaptax": bad > patience,
                "torch": bad > patience,
                "keras": bad >= max(patience, 1),
                "optax": bad == patience and not waiting,
            }
            if fires[convention]:
                scale = max(scale * factor, min_scale)
                bad, cooling, recent = 0, cooldown, []
        yield scale


def falls(evaluations, length, threshold, errors, absolute):
    """Return whether the line through the latest evaluations falls for certain."""
    latest = np.asarray(evaluations[-length:])
    if len(latest) < length:
        return False
    places = np.arange(length)
    slope, start = np.polyfit(places, latest, 1)
    squares = np.sum((latest - start - slope * places) ** 2) / (length - 2)
    error = np.sqrt(squares / np.sum((places - places.mean()) ** 2))
    size = 1 if absolute else abs(latest.mean())
    return -slope * (length - 1) > threshold * size and slope + errors * error < 0


def means_over(window, metrics):
    """Return the mean of each full window at its last metric, else None."""
    waiting = []
    for metric in metrics:
        waiting.append(metric)
        full = len(waiting) == window
        yield sum(waiting) / window if full else None
        waiting = [] if full else waiting


def averages(metrics, decay):
    """Return the exponential average without bias at each metric."""
    biased, weights = 0.0, 0.0
    for metric in metrics:
        biased = decay * biased + (1 - decay) * metric
        weights = decay * weights + (1 - decay)
        yield biased / weights


def bold_driver(
    metrics,
    gradients=None,
    *,
    increase=1.05,
    decrease=0.7,
    tolerance=1.04,
    decay=0.0,
    window=1,
    min_scale=1e-3,
    max_scale=1e3,
    mode="min",
):
    """Raise the scale when the evaluation fell, cut it when it rose."""
    del gradients
    means = [
        m if mode == "min" or m is None else -m for m in means_over(window, metrics)
    ]
    smoothed = averages([m for m in means if m is not None], decay)
    scale, before = 1.0, None
    for mean in means:
        if mean is not None:
            now = next(smoothed)
            if before is not None and now < before:
                scale = min(scale * increase, max_scale)
            elif before is not None and now > before + (tolerance - 1) * abs(before):
                scale = max(scale * decrease, min_scale)
            before = now
        yield scale


def loss_ratio(
    metrics,
    gradients=None,
    *,
    lower_bound=0.0,
    min_scale=0.0,
    decay=0.0,
    reference="first",
):
    """Scale by the loss above its bound, as a part of the first such loss or of it."""
    del gradients
    for loss in averages(metrics, decay):
        if loss <= lower_bound:
            ratio = 0.0
        elif reference == "current":
            ratio = 1 - lower_bound / loss
        elif metrics[0] <= lower_bound:
            ratio = 1.0
        else:
            ratio = (loss - lower_bound) / (metrics[0] - lower_bound)
        yield min(max(ratio, min_scale), 1.0)


def greedy(
    metrics,
    gradients=None,
    *,
    factor=0.95,
    patience=10,
    threshold=1e-6,
    cooldown=0,
    warmup=0,
    min_scale=1e-3,
    max_scale=1e3,
    reset=500,
    window=1,
    threshold_mode="absolute",
    mode="min",
):
    """Raise the scale after a run of improvements, cut it after a run without."""
    del gradients
    scale, best, good, bad, cooling, warming = 1.0, None, 0, 0, 0, 0
    left, latest = reset, []
    for metric in metrics:
        latest = [*latest, metric if mode == "min" else -metric][-window:]
        mean = sum(latest) / len(latest)
        if cooling > 0:
            cooling, good, bad = cooling - 1, 0, 0
        elif warming > 0:
            warming, good, bad = warming - 1, 0, 0
        elif best is None or mean < best - threshold * (
            abs(best) if threshold_mode == "relative" else 1
        ):
            best, good, bad = mean, good + 1, 0
        else:
            good, bad = 0, bad + 1
        if good > patience:
            scale = min(scale / factor, max_scale)
            good, warming, left = 0, warmup, reset
        elif bad > patience:
            scale = max(scale * factor, min_scale)
            bad, cooling = 0, cooldown
        if scale <= min_scale:
            left -= 1
        if left <= 0:
            scale, best, good, bad, cooling, warming = 1.0, None, 0, 0, 0, 0
            left, latest = reset, []
        yield scale


def early_stop(metrics, gradients=None, **arguments):
    """Leave the scale at 1."""
    del gradients, arguments
    for _ in metrics:
        yield 1.0


def phases(
    metrics,
    gradients=None,
    *,
    warmup,
    controller,
    cooldown,
    warmup_steps,
    cooldown_at,
):
    """Tell the controller of its own phase alone, and multiply what it gives."""
    del gradients
    state = controller.init(())
    for step, metric in enumerate(metrics):
        factor = 1.0
        if step >= cooldown_at:
            factor = float(cooldown(step - cooldown_at))
        elif step >= warmup_steps:
            state = controller.observe(state, metric)
        else:
            factor = float(warmup(step))
        yield factor * float(adaptax.learning_rate(state))


def hypergradient(
    metrics, gradients, *, beta, initial, min_scale, max_scale, rule="multiplicative"
):
    """Raise the rate while each gradient points along the one before."""
    del metrics
    rate, previous = initial, np.zeros_like(gradients[0])
    for gradient in gradients:
        slope = gradient @ previous
        if rule == "additive":
            rate += beta * slope
        elif slope:
            norms = np.linalg.norm(gradient) * np.linalg.norm(previous)
            rate *= 1 + beta * slope / norms
        rate = min(max(rate, initial * min_scale), initial * max_scale)
        previous = gradient
        yield rate


def gradient_variance(
    metrics,
    gradients,
    *,
    decay,
    exponent,
    min_scale,
    max_scale,
    by="variance",
    micro_batches=False,
):
    """Compare signal with noise in pairs, or each norm with the average of norms.

    With micro-batches there are three, whose norms spread with the metric.
    """
    norms, signals, powers = [], [], []

    def average(values):
        weights = decay ** np.arange(len(values))[::-1]
        return weights @ np.asarray(values) / weights.sum()

    for step, gradient in enumerate(gradients):
        ratio, norm = 1.0, np.linalg.norm(gradient)
        if micro_batches:
            micro = norm * (1 + np.array([1, 2, 3]) / 8 * metrics[step])
            signals.append((3 * norm**2 - np.mean(micro**2)) / 2)
            powers.append(norm**2)
            ratio = max(average(signals), 0) / average(powers)
        elif step > 0 and by == "norm":
            ratio = average(norms) / norm
            norm = min(norm, average(norms) / min_scale)
        elif step > 0:
            pair = gradients[step - 1 : step + 1]
            mean_square, square_mean = np.mean(pair**2) * len(gradient), pair.mean(0)
            signals.append(2 * square_mean @ square_mean - mean_square)
            powers.append(mean_square)
            ratio = max(average(signals), 0) / average(powers)
        norms.append(norm)
        yield min(max(ratio**exponent, min_scale), max_scale)


T_QUANTILES = {3: 5.840909, 4: 4.604095, 30: 2.457262}
"""Published: upper quantiles of Student's t for 0.005, but for 0.01 with ν = 30."""


def stationarity(
    metrics,
    gradients,
    *,
    factor,
    significance,
    warmup,
    every,
    min_scale,
    window,
    test="sasa",
    first=None,
):
    """Test, now and then, whether training at this scale is stationary."""
    assert significance == 0.01, "the quantiles are for this one"
    scale, seen, cuts, total, kept, place = 1.0, 0, 0, 0.0, [], first

    def holds_zero(statistics):
        size = math.isqrt(len(statistics))
        batches = [
            np.mean(statistics[at : at + size])
            for at in range(0, len(statistics) - size + 1, size)
        ]
        squares = np.square(np.asarray(batches) - np.mean(statistics)).sum()
        variance = size * squares / (len(batches) - 1)
        width = T_QUANTILES[size - 1] * math.sqrt(variance / len(statistics))
        return abs(np.mean(statistics)) < width

    def sasa():
        halves = kept[: window // 2], kept[window // 2 :]
        if cuts == 0:
            return holds_zero(halves[0]) and holds_zero(halves[1])
        return holds_zero(kept) and np.mean(halves[0]) * np.mean(halves[1]) > 0

    def slope():
        steps = np.arange(window)
        line, residual = np.polynomial.polynomial.polyfit(steps, kept, 1, full=True)
        deviations = np.sum((steps - steps.mean()) ** 2)
        error = math.sqrt(residual[0][0] / (window - 2) / deviations)
        return line[1] >= -T_QUANTILES[window - 2] * error

    for step, gradient in enumerate(gradients):
        seen += 1
        if test == "sasa":
            after = place - scale * gradient
            kept.append(after @ gradient + scale / 2 * gradient @ gradient)
        elif test == "slope":
            kept.append(metrics[step])
        elif seen > max(warmup, 1):
            total += gradient @ gradients[step - 1]
        kept = kept[-window:]
        if test == "pflug":
            cut = total < 0 and seen % every == 0
        else:
            cut = seen >= window and seen % every == 0
            cut = cut and (cuts > 0 or seen > warmup)
            cut = cut and (sasa() if test == "sasa" else slope())
        if cut:
            scale, cuts = max(scale * factor, min_scale), cuts + 1
            seen, total, kept = 0, 0.0, []
        if test == "sasa":
            place = place - scale * gradient
        yield scale


REFERENCES = {
    "hypergradient": hypergradient,
    "gradient_variance": gradient_variance,
    "stationarity": stationarity,
    "bold_driver": bold_driver,
    "early_stop": early_stop,
    "greedy": greedy,
    "loss_ratio": loss_ratio,
    "phases": phases,
    "reduce_on_plateau": reduce_on_plateau,
}
