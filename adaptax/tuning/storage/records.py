"""Records: the result of a tool in one file, and its hyperparameters by name.

Beside its arrays, a record has a few facts. A file whose name ends in .json is one JSON
text, see `json_records`; any other is an .npz, see `archives`, which NumPy alone reads:
`numpy.load(path)["losses"]`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require
from adaptax.tuning.storage import archives, json_records
from adaptax.tuning.storage.whole_files import fill_whole


def save_arrays(
    path: str | os.PathLike,
    kind: str,
    arrays: dict[str, np.ndarray],
    about: dict[str, Any],
) -> None:
    """Write a record: whole, or not at all.

    Args:
        path: The file, to be replaced if it is there; its folder is made if need be.
        kind: What the record is, such as "sweep".
        arrays: By name, of numbers or strings.
        about: Facts as JSON has them. Numbers that are not finite come back as the
            strings "nan", "inf" and "-inf".

    Raises:
        OSError: If it cannot be written there.
        TypeError: If JSON has no such fact.
        ValueError: If an array is of objects, or a name cannot be kept.
    """
    target = Path(os.path.realpath(checks.path("path", path)))  # a link stays one

    def fill(file):
        if _is_json(path):
            file.write(json_records.encode(kind, arrays, about).encode())
        else:
            archives.write(file, kind, arrays, about)
        return target.name

    with _naming(path, "written"):
        fill_whole(target.parent, fill)


def load_arrays(
    path: str | os.PathLike, kind: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote: the arrays, and the facts about them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no record, of another kind or another layout.
    """
    with _naming(checks.path("path", path), "read"), Path(path).open("rb") as file:
        if _is_json(path):
            return json_records.decode(file.read(), kind, os.fspath(path))
        return archives.read(file, kind, os.fspath(path))


@contextmanager
def _naming(path: str | os.PathLike, done: str) -> Iterator[None]:
    """Name the file in the errors of the system."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"path {os.fspath(path)!r} cannot be {done}: {error.strerror}. Give that "
            "of a file in a folder that you may use.",
        ) from error


def flatten_names(tree: Any) -> dict[str, np.ndarray]:
    """Name the leaves of a pytree by their paths.

    Raises:
        ValueError: If a key is empty or has a "/".

    >>> flatten_names({"adam": {"b1": 0.9}, "rates": (0.1, 0.2)})
    {'adam/b1': array(0.9), 'rates/0': array(0.1), 'rates/1': array(0.2)}
    """
    named = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        keys = [jax.tree_util.keystr((entry,), simple=True) for entry in path]
        for key in keys:
            require(
                key != "" and "/" not in key,
                f'the keys of hyperparameters must not be empty or have a "/" to be '
                f"saved, got {key!r}.",
            )
        named["/".join(keys)] = np.asarray(leaf)
    return named


def unflatten_names(named: dict[str, Any]) -> Any:
    """Undo `flatten_names`: give nested dicts, or the leaf that was alone.

    Tuples, lists and other nodes come back as dicts as well, by "0", "1" or the names
    of their fields; what was empty does not come back.

    Raises:
        ValueError: If a name is the path to others.

    >>> unflatten_names({"adam/b1": 0.9, "rates/0": 0.1, "rates/1": 0.2})
    {'adam': {'b1': 0.9}, 'rates': {'0': 0.1, '1': 0.2}}
    """
    if named.keys() == {""}:
        return named[""]
    tree: dict[str, Any] = {}
    for name, leaf in named.items():
        *above, last = name.split("/")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
            require(isinstance(node, dict), _both(name))
        require(last not in node, _both(name))
        node[last] = leaf
    return tree


def named_like(tree: Any, named: dict[str, Any]) -> Any:
    """Put values that `flatten_names` named into the structure of another tree."""
    leaves = [named[name] for name in flatten_names(tree)]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def _is_json(path: str | os.PathLike) -> bool:
    return os.fspath(path).endswith(".json")


def _both(name: str) -> str:
    return f"{name!r} cannot be a leaf, or lie below one, and have others beside it."


def leaf_named(tree: Any, name: Any) -> np.ndarray:
    """Return the leaf of a pytree that has a path, as `flatten_names` names it.

    Raises:
        ValueError: If there is none.
    """
    named = flatten_names(tree)
    require(
        isinstance(name, str) and name in named,
        f"name must be one of {list(named)}, got {name!r}.",
    )
    return named[name]


def prefixed(prefix: str, named: dict[str, Any]) -> dict[str, Any]:
    """Put names below a prefix."""
    return {f"{prefix}/{name}": value for name, value in named.items()}


def group(named: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return what stands below a prefix, without it."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): value
        for name, value in named.items()
        if name.startswith(start)
    }
