"""Agreement between the processes of a run: all continue, or all raise."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from adaptax._core.checks import require
from adaptax.tuning.storage import strict_json

_LONGEST = 1000  # bytes of a broadcast text


def require_alike(facts: dict[str, Any]) -> None:
    """Check that all processes were started alike; every process calls this.

    Args:
        facts: A description of the run, as plain JSON.

    Raises:
        ValueError: In all processes, if one differs from the first; the message says
            how.
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


@contextmanager
def failing_alike() -> Iterator[None]:
    """Let all raise that are about to call `require_alike`, if one of them fails."""
    try:
        yield
    except Exception as error:
        require_alike({"failed": repr(error)})
        raise


def from_first(text: str) -> str:
    """Return the first process's text in all processes, cut to 1000 bytes."""
    if jax.process_count() == 1:
        return text
    padded = np.frombuffer(text.encode()[:_LONGEST].ljust(_LONGEST), np.uint8)
    received = bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded)))
    return received.decode(errors="ignore").strip()


def from_each(*numbers: int) -> np.ndarray:
    """Return the integers of all processes, one row for each process."""
    if jax.process_count() == 1:
        return np.asarray([numbers], np.int32)
    return _gathered(np.asarray(numbers, np.int32))


@contextmanager
def failing_together() -> Iterator[None]:
    """Raise an error of the first process, in work that only it does, in all of them.

    Raises:
        OSError: In the other processes.
    """
    try:
        yield
    except Exception as error:
        from_first(str(error) or repr(error))
        raise
    failure = from_first("")
    if failure:
        raise OSError(f"the first process failed: {failure}")


def _gathered(array: Any) -> np.ndarray:
    """Return the arrays of all processes, with a leading axis of processes."""
    return np.asarray(multihost_utils.process_allgather(array))
