"""Members: the hyperparameters of all members of a space."""

import math
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from adaptax._core import checks, memory, tool_checks
from adaptax._core.checks import require
from adaptax.spaces.axes import (
    is_axis,
    is_list,
    numbers,
)


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

    >>> from adaptax.spaces import log_grid
    >>> space = {
    ...     "learning_rate": log_grid(1e-3, 1e-1, 3),
    ...     "b1": [0.0, 0.9],
    ...     "eps": 1e-8,
    ... }
    >>> values = members(space, None, jax.random.key(0))
    >>> values["learning_rate"]
    array([0.001, 0.001, 0.01 , 0.01 , 0.1  , 0.1  ], dtype=float32)
    >>> values["b1"]
    array([0. , 0.9, 0. , 0.9, 0. , 0.9], dtype=float32)
    """
    key = tool_checks.key("key", key)
    found, points, axes, sizes = _laid_out(space, samples)
    count = math.prod(sizes.values())
    each = 8 * len(sizes) + 4 * len(found) + 40  # bytes, draws in double precision
    memory.require_room(f"{count} members of space (samples={samples})", each * count)
    places = np.indices(tuple(sizes.values())).reshape(len(sizes), -1)
    place = dict(zip(sizes, places, strict=True))
    values = {path: points[path][place[axis]] for path, axis in axes.items()}
    for path in found.keys() - values.keys():
        values[path] = found[path].draw(_stream(key, path), count)
    return _nested(space, values)


def count_members(space: dict[str, Any], samples: int | None) -> int:
    """Return the number of members of a space, without making them.

    >>> from adaptax.spaces import grid, log_uniform
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
    values = {}
    for path, entry in _flattened(given, name=name).items():
        place = _named(path, name)
        values[path] = () if _is_random(entry) else _points(place, entry)
        require(
            len(values[path]) == 1,
            f"{name} must be constants, got several values in {place}. Pass one of "
            "them.",
        )
    return _nested(given, values)


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
    lists = [path for path in points if is_list(found[path])]
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


def _nested(space: Any, values: dict[tuple[str, ...], Any], path: tuple = ()) -> Any:
    """Undo `_flattened`: return values in the structure of a space."""
    if path in values:
        return values[path]
    return {key: _nested(entry, values, (*path, key)) for key, entry in space.items()}


def _named(path: tuple[str, ...], name: str = "space") -> str:
    return name + "".join(f"[{key!r}]" for key in path)


def _is_random(entry: Any) -> bool:
    return is_axis(entry) and entry.values is None


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
    return numbers(name, entry if is_list(entry) else [entry])


def _stream(key: jax.Array, path: tuple[str, ...]) -> jax.Array:
    """Return the key of a hyperparameter, which does not depend on the others."""
    return jax.random.fold_in(key, zlib.crc32(_named(path).encode()))
