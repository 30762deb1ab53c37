"""Memory: checks that what a call needs fits into the host's free memory.

Memory in proportion to an argument is estimated before it is allocated. The error names
the argument, where the operating system would kill the process.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHARE = 0.6
"""The fraction of the free memory that may be used."""

_CONTAINERS = (  # of versions 2 and 1 of Linux's control groups
    (
        "/sys/fs/cgroup",
        "memory.max",
        "memory.current",
        ("inactive_file", "active_file"),
    ),
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file", "total_active_file"),
    ),
)


def require_room(what: str, needed: int, free: float | None = None) -> None:
    """Refuse an allocation larger than `SHARE` of the free memory.

    Args:
        what: The subject of the message, in the plural, with the arguments' names.
        needed: The bytes to allocate.
        free: The bytes that are free; `None` for those of this host.

    Raises:
        ValueError: If they do not fit.
    """
    most = int(SHARE * (host_bytes() if free is None else free))
    if needed > most:
        raise ValueError(
            f"{what} need about {_readable(needed)} of memory, and only "
            f"{_readable(most)} may be used. Take fewer."
        )


def count_of(values: Sequence[Any]) -> int:
    """Return the length of a sequence, even of a range that is too long for `len`."""
    if isinstance(values, range) and values:
        return (values[-1] - values[0]) // values.step + 1
    return len(values)


def host_bytes() -> float:
    """Return the free memory of the machine, or of the container."""
    found = [
        free
        for free in (_machine_bytes(), *(_container_bytes(*c) for c in _CONTAINERS))
        if free is not None
    ]
    return min(found, default=2.0**32)  # not Linux


def _machine_bytes() -> float | None:
    try:
        return 1024 * _numbers(Path("/proc/meminfo"))["MemAvailable:"]
    except (OSError, KeyError):
        return None


def _container_bytes(
    folder: str, limit: str, used: str, cached: tuple[str, str]
) -> float | None:
    """Return the free memory of a container, file caches included."""
    try:
        most = float(Path(folder, limit).read_text())  # not a number without a limit
        taken = float(Path(folder, used).read_text())
        kinds = _numbers(Path(folder, "memory.stat"))
        return most - taken + sum(kinds[name] for name in cached)
    except (OSError, ValueError, KeyError):
        return None


def _numbers(path: Path) -> dict[str, float]:
    """Return the numbers in lines of a name and a number, by name."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) > 1}


def _readable(size: int) -> str:
    """Return a number of bytes as text, in MiB or GiB."""
    return f"{size >> 30} GiB" if size >= 10 * 2**30 else f"{size >> 20} MiB"
