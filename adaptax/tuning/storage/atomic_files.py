"""Atomic files: a file gets its name only when all of it is on the disk.

The content is written to a temporary file in the same folder, which is synced and then
renamed. After a kill or a power failure at any moment, the file has either the old
content or the new one. If writing fails, as on a full disk, the temporary file is
removed.
"""

import os
import secrets
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path

TEMPORARIES = ".adaptax-*.part"
"""The names of the temporary files; a kill leaves one behind."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file completely or, if that fails, leave it as it was."""

    def fill(file):
        file.write(content)
        return path.name

    fill_atomically(path.parent, fill)


def fill_atomically(folder: Path, fill: Callable[[BufferedRandom], str]) -> Path:
    """Write a file whose name may depend on its content.

    Args:
        folder: The folder of the file, which is created if needed.
        fill: A function that writes to an open file and returns its name.

    Returns:
        The path of the file, which replaces any other of that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / TEMPORARIES.replace("*", secrets.token_hex(8))
    try:
        with temporary.open("x+b") as file:
            path = folder / fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_names(folder)
    return path


def _sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, if the system supports it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
