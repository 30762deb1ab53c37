"""What the results of all tools have in common: they are shown, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, ClassVar, Self

import jax
import numpy as np

from adaptax.checks import require
from adaptax.tuning import records

_WIDTH = 88
"""What a line of a `repr` is cut to."""


class Result:
    """A dataclass whose `repr` is a line for each field, arrays as dtype and shape.

    `HEADLINES` are the properties that a reader looks for first.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        """Return a line for each headline and field; none of them holds an array."""
        names = [*self.HEADLINES, *vars(self)]
        lines = [f"  {name}={_brief(getattr(self, name))}" for name in names]
        cut = [
            line if len(line) < _WIDTH else line[: _WIDTH - 2] + "…" for line in lines
        ]
        return ",\n".join([f"{type(self).__name__}(\n{cut[0]}", *cut[1:]]) + ",\n)"


@dataclass(frozen=True, repr=False)
class ToolResult(Result):
    """What a tool found: it is saved to one file, and loaded.

    `KIND` is what such a file is called, and `AXES` has the axes of the arrays in it; a
    name that ends in "/" stands for all that begin with it.
    """

    AXES: ClassVar[dict[str, str]]

    KIND: ClassVar[str]

    def record(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the arrays, by name, and the facts that a file keeps."""
        raise NotImplementedError

    @classmethod
    def of_record(cls, arrays: dict[str, np.ndarray], about: dict[str, Any]) -> Self:
        """Undo `record`; hyperparameters come back as nested dicts."""
        raise NotImplementedError

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result to one file: .json, or else .npz.

        A trial's state is left out.
        """
        records.save_arrays(path, self.KIND, *self.record())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what `save` wrote; hyperparameters come back as nested dicts.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or something else.
        """
        arrays, about = records.load_arrays(path, cls.KIND)
        _require_axes(arrays, cls.AXES, path)
        try:
            return cls.of_record(arrays, about)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must be a whole {cls.KIND}, it lacks {error}."
            ) from error


def _require_axes(
    arrays: dict[str, np.ndarray], axes: dict[str, str], source: object
) -> None:
    lengths: dict[str, tuple[int, str]] = {}
    for pattern, names in axes.items():
        if pattern.endswith("/"):
            found = [name for name in arrays if name.startswith(pattern)]
        else:
            require(pattern in arrays, f"{source} has no array {pattern!r}.")
            found = [pattern]
        for name in found:
            shape, wanted = arrays[name].shape, names.split()
            require(
                len(shape) == len(wanted),
                f"{name!r} in {source} must have the axes {wanted}, got the shape "
                f"{shape}.",
            )
            for axis, length in zip(wanted, shape, strict=True):
                before, other = lengths.setdefault(axis, (length, name))
                require(
                    before == length,
                    f"{name!r} in {source} has {length} along the axis {axis!r}, and "
                    f"{other!r} has {before}.",
                )


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value) > 0:
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, bool | int | str) or value is None:
        return repr(value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        items = (f"{name!r}: {_brief(each)}" for name, each in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, Result):
        return f"{type(value).__name__}(...)"
    if type(value) in (list, tuple):
        inner = ", ".join(map(_brief, value))
        return f"[{inner}]" if type(value) is list else f"({inner})"
    arrays = len(jax.tree.leaves(value))
    return f"{type(value).__name__}({arrays} arrays)"
