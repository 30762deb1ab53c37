"""Forecasts: where the loss of a run will be, by the curve so far.

ℓ(t) ≈ a e^{−bt} + c,   a >= 0 and b > 0
"""

import numpy as np

_MEANS = 20
_SPEEDS = np.geomspace(1.0, 30.0, 40)


def forecasts_of(losses: np.ndarray, horizon: int) -> np.ndarray:
    """Forecast losses at a later step by fitting a e^{−bt} + c to each curve.

    The curve is first reduced to the means of at most 20 stretches. For each of 40
    speeds b, a and c follow by least squares. A decay slower than the curve is long
    cannot be told from a straight line, and its end not from the curve: b times the
    curve's length is at least 1. Where no a >= 0 fits better than a constant, the
    forecast is the mean of the last stretch.

    Args:
        losses: (members, steps).
        horizon: The step, from the curve's beginning, to forecast for; >= steps.

    Returns:
        (members,); losses that are not finite are left out, and where none is finite
        the forecast is infinite.
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
    heard = np.array([len(losses) > 0 for losses in finite])
    if not heard.any():
        return np.inf
    means = np.array([losses.mean() for losses in finite if len(losses)], np.float64)
    times = times[heard]
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
