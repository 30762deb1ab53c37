"""Axes: what a hyperparameter can be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks, memory, tool_checks
from adaptax._core.checks import require

Numbers = Sequence[float] | np.ndarray | jax.Array
"""A list, tuple or 1-D array of numbers."""

_LARGEST = {
    np.float32: float(np.finfo(np.float32).max),
    np.int32: float(np.iinfo(np.int32).max),
}


@dataclass(frozen=True, eq=False)
class Grid:
    """Points that are all tried: `values`, float32 or int32."""

    values: np.ndarray

    def draw(self, key: jax.Array, count: int) -> np.ndarray:
        """Draw points, each equally likely."""
        return _drawn_from(self.values, key, count)

    def clip(self, values: Any) -> np.ndarray:
        """Return the nearest points."""
        return _nearest(self.values, values)

    def perturbed(self, values: Any, factors: Any, key: jax.Array) -> np.ndarray:
        """Move to the next higher point if the factor is > 1, to the next lower if < 1.

        The outermost points do not move outwards.
        """
        del key
        points = np.unique(self.values)
        places = np.searchsorted(points, self.clip(values))
        moved = places + np.sign(np.asarray(factors) - 1).astype(int)
        return points[np.clip(moved, 0, len(points) - 1)]


@dataclass(frozen=True, eq=False)
class Interval:
    """A random axis from `low` to `high`, uniform in the value or its logarithm."""

    low: float
    high: float
    logarithmic: bool
    values: None = None

    def draw(self, key: jax.Array, count: int) -> np.ndarray:
        """Draw values, float32."""
        bounds = np.array([self.low, self.high])
        low, high = np.log(bounds) if self.logarithmic else bounds
        drawn = low + (high - low) * _shares(key, count)
        return self.clip(np.exp(drawn) if self.logarithmic else drawn)

    def clip(self, values: Any) -> np.ndarray:
        """Clip values to the bounds; float32."""
        inside = np.clip(np.asarray(values, np.float64), self.low, self.high)
        return inside.astype(np.float32)

    def perturbed(self, values: Any, factors: Any, key: jax.Array) -> np.ndarray:
        """Multiply by factors, within the bounds."""
        del key
        return self.clip(np.asarray(values, np.float64) * factors)


@dataclass(frozen=True, eq=False)
class Choice:
    """A random axis of numbers without an order: `options`, float32 or int32."""

    options: np.ndarray
    values: None = None

    def draw(self, key: jax.Array, count: int) -> np.ndarray:
        """Draw options, each equally likely."""
        return _drawn_from(self.options, key, count)

    def clip(self, values: Any) -> np.ndarray:
        """Return the nearest options."""
        return _nearest(self.options, values)

    def perturbed(self, values: Any, factors: Any, key: jax.Array) -> np.ndarray:
        """Draw anew, since options have no order."""
        del factors
        return self.draw(key, len(values))


Axis = Grid | Interval | Choice
"""The possible values of a hyperparameter.

`values` has the points of a grid, and is `None` on a random axis. `draw(key, count)`
draws values, `clip(values)` returns the nearest allowed values, and `perturbed(values,
factors, key)` varies the values of a population.
"""


def grid(values: Numbers) -> Grid:
    """Try each of these values.

    Args:
        values: Finite numbers, in any order; int32 if all are integers, else float32.

    >>> grid([0.9, 0.99, 0.999]).values
    array([0.9  , 0.99 , 0.999], dtype=float32)
    """
    return Grid(numbers("values", values))


def log_grid(low: float, high: float, num: int) -> Grid:
    """Try `num` >= 2 logarithmically spaced values, from `low` > 0 to `high` > low.

    >>> log_grid(1e-3, 1.0, 4).values
    array([0.001, 0.01 , 0.1  , 1.   ], dtype=float32)
    """
    num = checks.length("num", num, at_least=2)
    memory.require_room(f"num={num} values", 32 * num)
    low, high = _bounds(low, high, logarithmic=True)
    return Grid(np.geomspace(low, high, num).astype(np.float32))


def uniform(low: float, high: float) -> Interval:
    """Draw values between two bounds, `low` < `high`."""
    return Interval(*_bounds(low, high, logarithmic=False), logarithmic=False)


def log_uniform(low: float, high: float) -> Interval:
    """Draw values whose logarithm is uniform, from `low` > 0 to `high` > low."""
    return Interval(*_bounds(low, high, logarithmic=True), logarithmic=True)


def choice(values: Numbers) -> Choice:
    """Draw one of these numbers, without regard to their order; see `grid`.

    A number listed twice is drawn twice as often.
    """
    return Choice(numbers("values", values))


def is_axis(entry: Any) -> bool:
    """Return whether an entry is an axis, and not a list, a constant or a dict."""
    return isinstance(entry, Axis)


def numbers(name: str, values: Any) -> np.ndarray:
    """Check numbers, and return them as int32 if all are integers, else float32."""
    if not is_list(values):
        raise TypeError(
            f"{name} must be a list or a 1-D array of numbers, got {values!r}."
        )
    count = memory.count_of(values)
    memory.require_room(f"{count} values of {name}", 24 * count)
    if isinstance(values, range):
        values = np.arange(values.start, values.stop, values.step)
    if isinstance(values, np.ndarray | jax.Array):
        exact, whole = _from_array(name, values)
    else:
        for value in values:
            checks.number(name, value)
        kinds = {jnp.result_type(value) for value in values}
        whole = all(jnp.issubdtype(kind, jnp.integer) for kind in kinds)
        exact = np.array([float(value) for value in values])
    require(len(exact) > 0, f"{name} must have at least one value, got none.")
    dtype = np.int32 if whole else np.float32
    largest = float(exact[np.abs(exact).argmax()])
    require(
        abs(largest) <= _LARGEST[dtype],
        f"{name} must fit into {dtype.__name__}, got {largest:g}.",
    )
    return exact.astype(dtype)


def _from_array(name: str, values: Any) -> tuple[np.ndarray, bool]:
    """Return the numbers of an array in float64, and whether its dtype is integer.

    Numbers that are not finite are refused.
    """
    require(values.ndim == 1, f"{name} must be 1-D, got shape {values.shape}.")
    if len(values):
        checks.number(name, values[0])
    is_whole = jnp.issubdtype(values.dtype, jnp.integer)
    exact = np.asarray(values).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(exact))
    if len(bad):
        checks.number(name, exact[bad[0]])
    return exact, bool(is_whole)


def _bounds(low: Any, high: Any, *, logarithmic: bool) -> tuple[float, float]:
    smallest = float(np.finfo(np.float32).tiny)
    for name, bound in (("low", low), ("high", high)):
        checks.number(name, bound, above=0 if logarithmic else None)
        require(
            abs(float(bound)) <= _LARGEST[np.float32],
            f"{name} must be finite in float32, got {bound}.",
        )
    require(
        not logarithmic or float(low) >= smallest,
        f"low must be at least {smallest:.2g}, the smallest normal float32, got {low}.",
    )
    require(
        np.float32(low) < np.float32(high),
        f"low must be < high in float32, got {low} and {high}.",
    )
    return float(low), float(high)


def _shares(key: jax.Array, count: int) -> np.ndarray:
    """Draw from the uniform distribution between 0 and 1, both excluded."""
    key, count = tool_checks.key("key", key), checks.length("count", count, at_least=0)
    memory.require_room(f"count={count} draws", 40 * count)
    bits = np.asarray(jax.random.bits(key, (count,), jnp.uint32))
    return (bits + 0.5) / 2.0**32


def _drawn_from(values: np.ndarray, key: jax.Array, count: int) -> np.ndarray:
    return values[(_shares(key, count) * len(values)).astype(int)]


def _nearest(points: np.ndarray, values: Any) -> np.ndarray:
    """Return the nearest points; of two equally near ones, the lower."""
    points = np.unique(points)
    exact = points.astype(np.float64)
    # Far outside, rounding would make all points equally near.
    inside = np.clip(np.asarray(values, np.float64), exact[0], exact[-1])
    above = np.minimum(np.searchsorted(exact, inside), len(exact) - 1)
    below = np.maximum(above - 1, 0)
    nearer_below = inside - exact[below] <= exact[above] - inside
    return points[np.where(nearer_below, below, above)]


def is_list(entry: Any) -> bool:
    """Return whether an entry of a space is a list of values."""
    is_array = isinstance(entry, np.ndarray | jax.Array) and entry.ndim > 0
    return is_array or isinstance(entry, list | tuple | range)
