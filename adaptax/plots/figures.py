"""What the plots have in common."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


MOST_POINTS = 10_000

FAINT: Any = {"alpha": 0.3, "linewidth": 0.8}


def spans_decades(values: np.ndarray) -> bool:
    """Return whether values call for a logarithmic axis."""
    finite = values[np.isfinite(values)]
    if finite.size == 0 or finite.min() <= 0:
        return False
    low, high = np.quantile(finite, (0.05, 0.95))
    return bool(high > 30 * low)


def require_result(result: Any, kind: type) -> None:
    """Check that a plot was given the result of its tool."""
    if not isinstance(result, kind):
        raise TypeError(
            f"result must be a {kind.__name__}, got {type(result).__name__}."
        )


def smooth(curves: np.ndarray) -> np.ndarray:
    """Average each loss with those before it, over a 50th of the steps."""
    width = max(1, curves.shape[1] // 50)
    sums = np.cumsum(np.pad(curves, ((0, 0), (width, 0)), mode="edge"), axis=1)
    return (sums[:, width:] - sums[:, :-width]) / width


def median(curves: np.ndarray) -> np.ndarray:
    """Return the median over runs; NaN where it is not finite."""
    middle = np.median(np.where(np.isfinite(curves), curves, np.inf), axis=0)
    return np.where(np.isfinite(middle), middle, np.nan)


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'plots need matplotlib: pip install "adaptax[plots]".'
        ) from error
    return Figure(figsize=(width, height), layout="constrained")
