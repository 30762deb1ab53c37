"""Result files: the result of a tool in one file.

A file has arrays, and a few facts about them. If its name ends in .json, it is one JSON
text, see `json_results`. Otherwise it is an .npz, see `npz_files`, which NumPy can read
by itself: `numpy.load(path)["losses"]`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adaptax._core import tool_checks
from adaptax.tuning.storage import json_results, npz_files
from adaptax.tuning.storage.atomic_files import fill_atomically


def save_arrays(
    path: str | os.PathLike,
    kind: str,
    arrays: dict[str, np.ndarray],
    about: dict[str, Any],
) -> None:
    """Write a result file, completely or not at all.

    Args:
        path: The file, which is replaced if it exists; its folder is created if needed.
        kind: The kind of result, such as "sweep".
        arrays: Arrays by name, of numbers or strings.
        about: Facts as plain JSON. Numbers that are not finite are read back as the
            strings "nan", "inf" and "-inf".

    Raises:
        OSError: If it cannot be written there.
        TypeError: If `about` is not plain JSON.
        ValueError: If an array has objects, or a name is not allowed.
    """
    target = Path(os.path.realpath(tool_checks.path("path", path)))  # a link stays one

    def fill(file):
        if _is_json(path):
            file.write(json_results.encode(kind, arrays, about).encode())
        else:
            npz_files.write(file, kind, arrays, about)
        return target.name

    with _naming(path, "written"):
        fill_atomically(target.parent, fill)


def save_text(path: str | os.PathLike, content: Callable[[], str]) -> None:
    """Write a text, completely or not at all; make it when the file has been opened.

    Raises:
        OSError: If it cannot be written there.
    """
    target = Path(os.path.realpath(tool_checks.path("path", path)))
    if target.is_dir():
        raise IsADirectoryError(
            f"path {os.fspath(path)!r} must be a file, and is a folder."
        )

    def fill(file):
        file.write(content().encode())
        return target.name

    with _naming(path, "written"):
        fill_atomically(target.parent, fill)


def load_arrays(
    path: str | os.PathLike, kind: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Undo `save_arrays`: return the arrays, and the facts about them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not a result, or of another kind or layout.
    """
    with _naming(tool_checks.path("path", path), "read"), Path(path).open("rb") as file:
        if _is_json(path):
            return json_results.decode(file.read(), kind, os.fspath(path))
        return npz_files.read(file, kind, os.fspath(path))


@contextmanager
def _naming(path: str | os.PathLike, done: str) -> Iterator[None]:
    """Name the file in errors of the operating system."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"path {os.fspath(path)!r} cannot be {done}: {error.strerror}. Use a file "
            "in a folder that you may access.",
        ) from error


def _is_json(path: str | os.PathLike) -> bool:
    return os.fspath(path).endswith(".json")
