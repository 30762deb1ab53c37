"""Forecasts of the loss of a run from its curve so far.

ℓ(t) ≈ a e^{−bt} + c,   a >= 0 and b > 0
"""

import numpy as np

_MEANS = 20
_SPEEDS = np.geomspace(1.0, 30.0, 40)


def forecasts_of(losses: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast losses at a later step by fitting a e^{−bt} + c to each curve.

    The curve is first reduced to the means of at most 20 segments. For each of 40
    values of b, a and c are fitted by least squares. b times the curve's length is at
    least 1: a slower decay looks like a straight line, which does not determine c. If
    no a >= 0 fits better than a constant, the forecast is the mean of the last segment.

    Args:
        losses: The curves, (members, steps).
        horizon: The step, from the curve's start, to forecast for; >= steps.

    Returns:
        The forecasts, (members,). Losses that are not finite are left out; if none is
        finite, the forecast is infinite.
    """
    steps = losses.shape[1]
    parts = np.array_split(np.arange(steps), min(_MEANS, steps))
    times = np.array([part.mean() for part in parts]) / steps
    end = horizon / steps
    return np.array([_forecast(curve, parts, times, end) for curve in losses])


def _forecast(
    curve: np.ndarray, parts: list[np.ndarray], times: np.ndarray, end: float
) -> float:
    finite = [curve[part][np.isfinite(curve[part])] for part in parts]
    nonempty = np.array([len(losses) > 0 for losses in finite])
    if not nonempty.any():
        return np.inf
    means = np.array([losses.mean() for losses in finite if len(losses)], np.float64)
    times = times[nonempty]
    last = float(means[-1])
    if len(means) < 3:
        return last
    best, found = np.square(means - means.mean()).sum(), last
    for speed in _SPEEDS:
        shape = np.exp(-speed * times)
        columns = np.stack([shape, np.ones_like(shape)], axis=1)
        (height, floor), *_ = np.linalg.lstsq(columns, means, rcond=None)
        error = np.square(columns @ (height, floor) - means).sum()
        if height >= 0 and error < best:
            best, found = error, float(floor + height * np.exp(-speed * end))
    return found
