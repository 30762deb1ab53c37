"""The seeds and keys of a tool."""

import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from adaptax._core import checks, tool_checks
from adaptax._core.checks import require
from adaptax._core.memory import count_of
from adaptax.tuning.running.planning import require_room


def stream(key: Any, name: str) -> jax.Array:
    """Return a separate key for a named use, independent of the members' keys."""
    return jax.random.fold_in(tool_checks.key("key", key), zlib.crc32(name.encode()))


def as_seeds(seeds: int | Sequence[int]) -> np.ndarray:
    """Return the seeds from their number, or from a list, which may have duplicates."""
    if isinstance(seeds, int | np.integer):
        seeds = range(checks.length("seeds", seeds))
    if isinstance(seeds, np.ndarray | jax.Array):
        require(seeds.ndim == 1, f"seeds must be 1-D, got shape {seeds.shape}.")
        seeds = seeds.tolist()
    if not isinstance(seeds, list | tuple | range):
        raise TypeError(f"seeds must be a number or a list of them, got {seeds!r}.")
    count = count_of(seeds)
    require_room(f"{count} seeds", 12 * count)
    require(count > 0, "seeds must be a number >= 1 or a list of them, got none.")
    for seed in (seeds[0], seeds[-1]) if isinstance(seeds, range) else seeds:
        checks.count("seeds", seed)
        require(seed < 2**32, f"seeds must be < 2**32, got {seed}. Take smaller ones.")
    if isinstance(seeds, range):
        return np.arange(seeds.start, seeds.stop, seeds.step).astype(np.uint32)
    return np.asarray(seeds, np.uint32)
