"""Boundaries: the steps at which a schedule changes, in increasing order."""

from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adaptax._core.checks import Scalar, require
from adaptax._core.scalars import known, real
from adaptax.schedules.periods import as_integer, integral

Boundaries: TypeAlias = Sequence[Scalar] | np.ndarray | jax.Array
"""Whole steps >= 0, each greater than the one before; an array may be traced."""


def require_increasing(boundaries: Boundaries, count: int, per: str) -> None:
    """Check the number of boundaries and, if their values are known, their order.

    Args:
        boundaries: The boundaries.
        count: Their required number.
        per: What each boundary is for, for the message.

    Raises:
        ValueError: If they are not one-dimensional, have the wrong number, or are not
            increasing whole numbers >= 0.
    """
    shape = getattr(boundaries, "shape", (len(boundaries),))
    require(
        shape == (count,),
        f"boundaries must be {count} steps, one {per}, got shape {shape}.",
    )
    if known(boundaries) and count:
        steps = np.asarray(boundaries, np.float64)
        require(
            bool(np.all(np.isfinite(steps) & (steps == np.floor(steps)))),
            f"boundaries must be whole numbers of steps, got {boundaries}.",
        )
        require(
            bool(steps[0] >= 0),
            f"boundaries must be >= 0, got {boundaries}.",
        )
        require(
            bool(np.all(np.diff(steps) > 0)),
            f"boundaries must increase, got {boundaries}.",
        )


def passed(boundaries: Boundaries, step: jax.Array) -> jax.Array:
    """Count the boundaries at or before each step."""
    if len(boundaries) == 0:
        return jnp.zeros(step.shape, jnp.int32)
    if known(boundaries):
        boundaries = np.asarray(boundaries)
    else:
        boundaries = jnp.asarray(boundaries)
    as_number = as_integer if integral(boundaries, step) else real
    # Comparing with all boundaries is one fused operation. A binary search is a loop,
    # which costs a kernel launch per iteration on an accelerator.
    return jnp.searchsorted(
        as_number(boundaries), as_number(step), side="right", method="compare_all"
    )
