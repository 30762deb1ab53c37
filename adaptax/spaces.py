"""Spaces of hyperparameters.

A space is a dict, which may be nested, with an entry for each hyperparameter:

    grid, log_grid                 points, all tried; several grids form a product
    uniform, log_uniform, choice   random axes, drawn for each member
    a list or 1-D array            values paired with those of the other lists
    a number                       the same for all members

`members` returns the hyperparameters of all members. They are computed on the host from
the bits of a JAX key, so they are the same on every platform.

Source of the random axes: Bergstra & Bengio (2012), "Random Search for Hyper-Parameter
Optimization", JMLR 13; of their perturbation: Jaderberg et al. (2017), "Population
Based Training of Neural Networks" (arXiv 1711.09846), section 4.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core import checks, memory
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
    return Grid(_numbers("values", values))


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
    return Choice(_numbers("values", values))


def is_axis(entry: Any) -> bool:
    """Return whether an entry is an axis, and not a list, a constant or a dict."""
    return isinstance(entry, Axis)


def is_random(space: dict[str, Any]) -> bool:
    """Return whether a space has a random axis."""
    return any(_is_random(entry) for entry in _flattened(space).values())


def entries(space: dict[str, Any]) -> list[Any]:
    """Return the entries of a space: axes, lists and constants.

    They are in the order of `jax.tree.leaves` of the members' hyperparameters.
    """
    _flattened(space)  # checks the space
    return jax.tree.leaves(space, is_leaf=lambda entry: not isinstance(entry, dict))


def members(space: dict[str, Any], samples: int | None, key: jax.Array) -> Any:
    """Return the hyperparameters of all members of a space.

    Grids form a product, in which the first key varies slowest; each combination gets
    `samples` draws of the random axes. Lists have the same length, and their i-th
    values together are one point of the product.

    Args:
        space: See the module's docstring.
        samples: Draws of the random axes >= 1; `None` if there are none.
        key: The random key. The draws of a hyperparameter depend only on the key and
            its name.

    Returns:
        The space with NumPy arrays of shape (members,), float32 or int32.

    Raises:
        ValueError: If the space is empty, its lists differ in length, a value is not
            finite, or `samples` does not match the space.
        TypeError: If an entry is none of these.

    >>> space = {
    ...     "learning_rate": log_grid(1e-3, 1e-1, 3),
    ...     "b1": [0.0, 0.9],
    ...     "eps": 1e-8,
    ... }
    >>> made = members(space, None, jax.random.key(0))
    >>> made["learning_rate"]
    array([0.001, 0.001, 0.01 , 0.01 , 0.1  , 0.1  ], dtype=float32)
    >>> made["b1"]
    array([0. , 0.9, 0. , 0.9, 0. , 0.9], dtype=float32)
    """
    key = checks.key("key", key)
    found, points, axes, sizes = _laid_out(space, samples)
    count = math.prod(sizes.values())
    each = 8 * len(sizes) + 4 * len(found) + 40  # bytes, draws in double precision
    memory.require_room(f"{count} members of space (samples={samples})", each * count)
    places = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
    place = dict(zip(sizes, places, strict=True))
    made = {path: points[path][place[axis]] for path, axis in axes.items()}
    for path in found.keys() - made.keys():
        made[path] = found[path].draw(_stream(key, path), count)
    return _nested(space, made)


def count_members(space: dict[str, Any], samples: int | None) -> int:
    """Return the number of members of a space, without making them.

    >>> count_members({"b1": grid([0.8, 0.9]), "eps": log_uniform(1e-8, 1e-4)}, 10**9)
    2000000000
    """
    *_, sizes = _laid_out(space, samples)
    return math.prod(sizes.values())


def constants(given: dict[str, Any], name: str) -> Any:
    """Return constant hyperparameters as arrays of shape (1,).

    Args:
        given: A space without random axes and lists of several values.
        name: Its name in messages.

    Raises:
        ValueError: If one is not finite, or has several values.
        TypeError: If one is not a number.
    """
    made = {}
    for path, entry in _flattened(given, name=name).items():
        place = _named(path, name)
        made[path] = () if _is_random(entry) else _points(place, entry)
        require(
            len(made[path]) == 1,
            f"{name} must be constants, got several values in {place}. Pass one of "
            "them.",
        )
    return _nested(given, made)


class _Layout(NamedTuple):
    """The product that the members of a space form.

    `points` has the values of the entries that are not drawn, `axes` the axis of the
    product that each of these belongs to, and `sizes` the lengths of all axes.
    """

    entries: dict[tuple[str, ...], Any]
    points: dict[tuple[str, ...], np.ndarray]
    axes: dict[tuple[str, ...], Any]
    sizes: dict[Any, int]


def _laid_out(space: dict[str, Any], samples: int | None) -> _Layout:
    found = _flattened(space)
    random = [path for path, entry in found.items() if _is_random(entry)]
    _require_samples(samples, random)
    points = {
        path: _points(_named(path), entry)
        for path, entry in found.items()
        if path not in random
    }
    lists = [path for path in points if _is_list(found[path])]
    listed = ", ".join(f"{len(points[path])} in {_named(path)}" for path in lists)
    require(
        len({len(points[path]) for path in lists}) <= 1,
        f"lengths must be equal, got {listed}. Lists are paired value by value; use "
        "grid(...) to combine each value with all others.",
    )
    # All lists together are one axis.
    axes = {path: "lists" if path in lists else path for path in points}
    sizes: dict[Any, int] = {axis: len(points[path]) for path, axis in axes.items()}
    sizes["samples"] = int(samples or 1)
    return _Layout(found, points, axes, sizes)


def _flattened(
    space: Any, path: tuple[str, ...] = (), name: str = "space"
) -> dict[tuple[str, ...], Any]:
    """Return the entries of a space by their paths, in the order of its keys."""
    if not isinstance(space, dict):
        raise TypeError(f"{_named(path, name)} must be a dict, got {space!r}.")
    found = {}
    for key, entry in space.items():
        if not isinstance(key, str):
            raise TypeError(
                f"the keys of {_named(path, name)} must be strings, got {key!r}."
            )
        here = (*path, key)
        is_dict = isinstance(entry, dict)
        found |= _flattened(entry, here, name) if is_dict else {here: entry}
    require(bool(found), f"{_named(path, name)} must not be empty.")
    return found


def _nested(space: Any, made: dict[tuple[str, ...], Any], path: tuple = ()) -> Any:
    """Undo `_flattened`: return values in the structure of a space."""
    if path in made:
        return made[path]
    return {key: _nested(entry, made, (*path, key)) for key, entry in space.items()}


def _named(path: tuple[str, ...], name: str = "space") -> str:
    return name + "".join(f"[{key!r}]" for key in path)


def _is_random(entry: Any) -> bool:
    return is_axis(entry) and entry.values is None


def _is_list(entry: Any) -> bool:
    is_array = isinstance(entry, np.ndarray | jax.Array) and entry.ndim > 0
    return is_array or isinstance(entry, list | tuple | range)


def _require_samples(samples: int | None, random: list[tuple[str, ...]]) -> None:
    if samples is None:
        require(
            not random,
            f"samples must be the number of draws, got None, and "
            f"{', '.join(map(_named, random))} is drawn.",
        )
        return
    checks.length("samples", samples)
    require(
        bool(random),
        f"samples must be None, got {samples}: nothing in the space is drawn.",
    )


def _points(name: str, entry: Any) -> np.ndarray:
    if is_axis(entry):
        return entry.values
    return _numbers(name, entry if _is_list(entry) else [entry])


def _numbers(name: str, values: Any) -> np.ndarray:
    """Check numbers, and return them as int32 if all are integers, else float32."""
    if not _is_list(values):
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


def _stream(key: jax.Array, path: tuple[str, ...]) -> jax.Array:
    """Return the key of a hyperparameter, which does not depend on the others."""
    return jax.random.fold_in(key, zlib.crc32(_named(path).encode()))


def _shares(key: jax.Array, count: int) -> np.ndarray:
    """Draw from the uniform distribution between 0 and 1, both excluded."""
    key, count = checks.key("key", key), checks.length("count", count, at_least=0)
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
