"""Whole files: a file gets its name only when all of it is on the disk.

What is written goes to a temporary file in the same folder, which is synced and then
renamed. After a kill or a power cut at any moment, the name stands for the old content
or for the new one. If writing fails, as on a full disk, the temporary file goes.
"""

import os
import secrets
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path

TEMPORARIES = ".adaptax-*.part"
"""The names of the temporary files; a kill leaves one behind."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there whole or, if this fails, as it was before."""

    def fill(file):
        file.write(content)
        return path.name

    fill_atomically(path.parent, fill)


def fill_atomically(folder: Path, fill: Callable[[BufferedRandom], str]) -> Path:
    """Write a file whose name may depend on its content.

    Args:
        folder: Where it will be; made if need be.
        fill: Writes to a file that is open for writing and reading, and gives its name.

    Returns:
        The file, which replaced any other of that name.
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
    """Wait until the names in a folder are on the disk, where a system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
