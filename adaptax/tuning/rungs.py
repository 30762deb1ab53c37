"""Rungs: the steps at which successive halving selects, and what they cost."""

import numpy as np

from adaptax._core import checks
from adaptax._core.checks import require


def rungs_to(
    num_steps: int, members: int, eta: int, first_rung: int | None
) -> np.ndarray:
    """Return the steps of the rungs, ascending; each is η times the previous one."""
    if first_rung is None:
        levels = 0
        while eta ** (levels + 1) <= members and num_steps // eta ** (levels + 1) >= 1:
            levels += 1
    else:
        first_rung = checks.length("first_rung", first_rung)
        require(
            first_rung <= num_steps,
            f"first_rung must be <= num_steps, got {first_rung} > {num_steps}.",
        )
        levels = 0
        while first_rung * eta ** (levels + 1) <= num_steps:
            levels += 1
    return np.array([num_steps // eta**j for j in range(levels, -1, -1)], np.int32)


def total_cost(rungs: np.ndarray, members: int, eta: int) -> int:
    """Return the number of steps of all members if none diverges."""
    cost, before = 0, 0
    for rung in rungs.tolist():
        cost += members * (rung - before)
        members, before = max(1, members // eta), rung
    return cost
