"""Types of arguments on the command lines of benchmarks and examples."""

import argparse
from collections.abc import Callable
from pathlib import Path


def at_least(smallest: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number that is not below another."""

    def whole(text: str) -> int:
        if not text.removeprefix("-").isdecimal() or int(text) < smallest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number >= {smallest}, got {text!r}."
            )
        return int(text)

    return whole


def folder(text: str) -> Path:
    """Make the folder that an argument names, unless it exists."""
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot be written to: {error}") from None
    return path
