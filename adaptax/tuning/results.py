"""The base classes of results: printing, saving and loading."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Self

import jax
import numpy as np

from adaptax._core.checks import require
from adaptax.tuning.analysis import tables
from adaptax.tuning.scores import signed
from adaptax.tuning.storage import html_reports, result_files
from adaptax.tuning.storage.named_arrays import (
    flatten_names,
    group,
    prefixed,
    unflatten_names,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 88
"""The width to which a line of a `repr` is cut."""


class Result:
    """A dataclass of arrays, printed as a line for each field, with dtype and shape.

    `HEADLINES` are the properties to print first. `AXES` has the axes of the fields
    that are saved as arrays, "" for a number; a name that ends in "/" is a dict of
    arrays, or the pytree `hparams`; "*" stands for any other axes. `NESTED` has the
    types of the fields that are results themselves, or `None`.
    """

    HEADLINES: ClassVar[tuple[str, ...]] = ()
    AXES: ClassVar[dict[str, str]]
    NESTED: ClassVar[dict[str, type["Result"]]] = {}

    def __repr__(self) -> str:
        """Return a line for each headline and field, without the arrays' values."""
        names = [*self.HEADLINES, *vars(self)]
        lines = [f"  {name}={_brief(getattr(self, name))}" for name in names]
        cut = [
            line if len(line) < _WIDTH else line[: _WIDTH - 2] + "…" for line in lines
        ]
        return ",\n".join([f"{type(self).__name__}(\n{cut[0]}", *cut[1:]]) + ",\n)"

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays to save, by name."""
        found: dict[str, np.ndarray] = {}
        for name, value in vars(self).items():
            if name in self.AXES:
                found[name] = np.asarray(value)
            elif f"{name}/" in self.AXES:
                flat = flatten_names(value) if name == "hparams" else value
                found |= prefixed(name, flat)
            elif name in self.NESTED and value is not None:
                found |= prefixed(name, value.arrays())
        return found

    @classmethod
    def fields_of(cls, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Undo `arrays`; hyperparameters become nested dicts."""
        found: dict[str, Any] = {}
        for pattern, axes in cls.AXES.items():
            name = pattern.removesuffix("/")
            if name == pattern:
                found[name] = arrays[name] if axes else arrays[name].item()
                continue
            named = group(arrays, name)
            found[name] = unflatten_names(named) if name == "hparams" else named
        for name, kind in cls.NESTED.items():
            named = group(arrays, name)
            found[name] = kind(**kind.fields_of(named)) if named else None
        return found


@dataclass(frozen=True, repr=False)
class ToolResult(Result):
    """The result of a tool, which can be saved to one file.

    `KIND` names this type of file. `ROWS` has the axes of the rows in a table. `PLOT`
    is the function of `adaptax.plots` that draws it.
    """

    KIND: ClassVar[str]
    PLOT: ClassVar[str]
    ROWS: ClassVar[str]

    def contents(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Return the arrays, by name, and the other fields to save."""
        facts = {name: getattr(self, name) for name in self._facts()}
        about = vars(self)["about"]
        return self.arrays(), {**facts, "about": about} if facts else about

    @classmethod
    def from_contents(
        cls, arrays: dict[str, np.ndarray], about: dict[str, Any]
    ) -> Self:
        """Undo `contents`; hyperparameters become nested dicts."""
        facts = about if cls._facts() else {"about": about}
        return cls(**cls.fields_of(arrays), **facts)

    @classmethod
    def _facts(cls) -> list[str]:
        """Return the fields, besides `about`, that are not arrays."""
        kept = {name.removesuffix("/") for name in cls.AXES} | {"about", "state"}
        names = [field.name for field in fields(cls)]
        return [name for name in names if name not in kept | set(cls.NESTED)]

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each row of a table, as for a data frame."""
        columns = {name: column.tolist() for name, column in self._columns().items()}
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def table(self, rows: int = 20) -> str:
        """Return a table to print: for a sweep, its members from best to worst.

        Args:
            rows: The number of rows; a last line counts the others.
        """
        return tables.text(self._table(), rows)

    def _repr_html_(self, rows: int = 20) -> str:
        """Return the headlines and the table for a notebook."""
        shown = [f"{name}: {_brief(getattr(self, name))}" for name in self.HEADLINES]
        lines = [f"<p><b>{type(self).__name__}</b></p>"]
        lines += [f"<p>{escape(line)}</p>" for line in shown]
        return "\n".join([*lines, tables.html(self._table(), rows)])

    def plot(self, **options: Any) -> "Figure":
        """Draw the result.

        Args:
            options: The optional arguments of the function of `adaptax.plots` for this
                kind of result, such as the `name` of the hyperparameter to draw.

        Returns:
            A `matplotlib.figure.Figure`, which a notebook shows.

        Raises:
            ImportError: If matplotlib is missing.
        """
        plots = import_module("adaptax.plots")  # which imports the results
        return getattr(plots, self.PLOT)(self, **options)

    def report(self, path: str | PathLike[str], rows: int = 100) -> None:
        """Write an HTML file with the figure, the table, and how to repeat the run.

        Args:
            path: The file, which is replaced if it exists; its folder is created if
                needed. It refers to no other file.
            rows: The number of rows in the table; a last line counts the others.

        Raises:
            ImportError: If matplotlib is missing.
            OSError: If it cannot be written there, before anything is drawn.
        """

        def content() -> str:
            heads = {name: _brief(getattr(self, name)) for name in self.HEADLINES}
            table = tables.html(self._table(), rows)
            about = vars(self)["about"]
            return html_reports.page(self.KIND, heads, self.plot(), table, about)

        result_files.save_text(path, content)

    def minimized(self, scores: np.ndarray) -> np.ndarray:
        """Return scores such that lower is better: negated if they were maximized."""
        return signed(scores, vars(self)["about"].get("mode"))

    def _table(self) -> dict[str, Any]:
        """Return the columns of the table by their titles."""
        return self._columns()

    def _columns(self) -> dict[str, np.ndarray]:
        """Return the arrays along the axes of the rows, (rows,) each, by name."""
        axes = self.ROWS.split()
        lengths: dict[str, int] = {}
        found: dict[str, tuple[list[str], np.ndarray]] = {}
        for name, array in self.arrays().items():
            head, _, rest = name.partition("/")
            own = self.AXES.get(name, self.AXES.get(f"{head}/", "")).split()
            lengths |= dict(zip(own, array.shape, strict=False))
            if own and set(own) <= set(axes):
                found[rest or _one(name)] = own, array
        shape = [lengths[axis] for axis in axes]
        columns = dict(zip(map(_one, axes), np.indices(shape), strict=True))
        for name, (own, array) in found.items():
            order = np.argsort([axes.index(axis) for axis in own])
            missing = tuple(at for at, axis in enumerate(axes) if axis not in own)
            wide = np.expand_dims(array.transpose(order), missing)
            columns[name] = np.broadcast_to(wide, shape)
        return {name: column.ravel() for name, column in columns.items()}

    def save(self, path: str | PathLike[str]) -> None:
        """Save the result, without the trial's state, to one file: .json, or .npz."""
        result_files.save_arrays(path, self.KIND, *self.contents())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Load a saved result; hyperparameters become nested dicts.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or another kind of file.
        """
        arrays, about = result_files.load_arrays(path, cls.KIND)
        _require_axes(arrays, cls.AXES, path)
        try:
            return cls.from_contents(arrays, about)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} must be a complete {cls.KIND}, it lacks {error}."
            ) from error


def _one(name: str) -> str:
    """Return the singular of a name.

    >>> [_one(name) for name in ("branches", "losses", "seeds", "chosen")]
    ['branch', 'loss', 'seed', 'chosen']
    """
    return name.removesuffix("es" if name in ("branches", "losses") else "s")


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
            if wanted[-1:] == ["*"]:
                wanted.pop()
                shape = shape[: len(wanted)]
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
