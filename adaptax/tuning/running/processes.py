"""Processes: what those of one run tell each other, so that all go on or all raise."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from adaptax._core.checks import require
from adaptax.tuning.storage import strict_json

_LONGEST = 1000  # bytes of what the first process says


def require_alike(facts: dict[str, Any]) -> None:
    """Compare what the processes were started with; every one calls this.

    Args:
        facts: As JSON has them.

    Raises:
        ValueError: In all processes, if one differs from the first; with what differs.
    """
    if jax.process_count() == 1:
        return
    text = strict_json.encode(facts).encode()
    digests = _gathered(np.frombuffer(hashlib.sha256(text).digest(), np.uint8))
    if (digests == digests[0]).all():
        return
    lengths = _gathered(np.int32(len(text)))
    padded = np.frombuffer(text.ljust(int(lengths.max())), np.uint8)
    first, *others = (strict_json.decode(bytes(row)) for row in _gathered(padded))
    for index, there in enumerate(others, 1):
        sides = f"on process {index}", "on process 0"
        differing = strict_json.brief_differences(there, first, sides)
        require(
            not differing,
            f"the processes were started with different runs: {'; '.join(differing)}. "
            "Start all of them with the same arguments, code, data and versions.",
        )


def said_by_the_first(text: str) -> str:
    """Return what the first process says, in all of them: its first 1000 bytes."""
    if jax.process_count() == 1:
        return text
    padded = np.frombuffer(text.encode()[:_LONGEST].ljust(_LONGEST), np.uint8)
    heard = bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded)))
    return heard.decode(errors="ignore").strip()


def said_by_each(*numbers: int) -> np.ndarray:
    """Return the whole numbers that the processes say: one row for each of them."""
    if jax.process_count() == 1:
        return np.asarray([numbers], np.int32)
    return _gathered(np.asarray(numbers, np.int32))


@contextmanager
def failing_together() -> Iterator[None]:
    """Let an error of the first process, in what only it does, be raised by all.

    Raises:
        OSError: In the others.
    """
    try:
        yield
    except Exception as error:
        said_by_the_first(str(error) or repr(error))
        raise
    told = said_by_the_first("")
    if told:
        raise OSError(f"the first process failed: {told}")


def _gathered(array: Any) -> np.ndarray:
    """Return an array that each process has one of, with a leading axis of them."""
    return np.asarray(multihost_utils.process_allgather(array))
