"""Seats: what may stand where a learning rate is asked for.

A rate multiplies its updates by one number >= 0. A whole optimizer in its place has a
minus sign of its own, and two of them climb; a direction changes more than the size of
the steps; and a controller that only multiplies another rate would be a rate of 1.

States tell what they belong to: that of a rate of adaptax has a method `has_unit`,
which is whether it is a rate by itself or a multiple of another. Whatever has other
states is tried on a small update, see `adaptax._core.probing`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from adaptax._core.checks import require
from adaptax._core.probing import probe
from adaptax._core.states import asked

_CONTAINERS = (optax.MaskedState, optax.transforms.PartitionState)
_UNKNOWN = (0.5, 1e-3, 10.0)  # traced inputs: at one of them a rate should be >= 0


def require_rate(transformation: optax.GradientTransformation) -> None:
    """Check that a transformation is a rate, as far as that can be known.

    Raises:
        ValueError: If it turns a small update around, or changes its direction.
    """
    if None not in _units(transformation):
        return
    faults = []
    for unknown in _UNKNOWN:
        faults.append(_fault(probe(transformation, unknown)))
        if faults[-1] is None:
            return
    raise ValueError(faults[0])


def require_unit(transformation: optax.GradientTransformation) -> None:
    """Check that a rate is not made of controllers alone that multiply another rate.

    Raises:
        ValueError: If it is.
    """
    units = _units(transformation)
    require(
        not units or any(unit is not False for unit in units),
        "learning_rate got a controller that only multiplies another rate, which alone "
        "would be a rate of 1. Give it the rate as well: "
        "learning_rate=[1e-3, reduce_on_plateau()], whose members multiply.",
    )


def _units(transformation: optax.GradientTransformation) -> list[bool | None]:
    """List the rates in a transformation: whether they have a unit, `None` for others.

    It is `[None]` where the state cannot be had without the user's own parameters.
    """
    example = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}
    try:
        return list(_told(jax.eval_shape(transformation.init, example)))
    except Exception:  # what a stranger's code raises is not known
        return [None]


def _told(state: Any) -> Iterator[bool | None]:
    if has_unit := asked(state, "has_unit"):
        yield has_unit()
    elif isinstance(state, optax.contrib.ReduceLROnPlateauState):
        yield False
    elif isinstance(state, optax.InjectStatefulHyperparamsState):
        yield from _told(state.inner_state)
    elif type(state) in (tuple, dict, *_CONTAINERS) and state:
        for part in state.values() if isinstance(state, dict) else state:
            yield from _told(part)
    else:
        yield None


def _fault(pairs: list[tuple[np.ndarray, np.ndarray]] | None) -> str | None:
    """Say what is wrong with what was made of some updates, if anything is."""
    if pairs is None or not all(np.isfinite(result).all() for _, result in pairs):
        return None
    if any((result < 0).any() for _, result in pairs):
        return (
            "learning_rate got a whole optimizer, which has its own minus sign (or a "
            "negative factor): its steps would climb. Use that optimizer by itself, or "
            "give the rate alone: a number, a schedule, a controller."
        )
    factors = [result / update for update, result in pairs]
    if not all(np.allclose(one, one[::-1], rtol=1e-3) for one in factors):
        return (
            "learning_rate got a transformation that changes the direction of the "
            "updates and not only their size, as scale_by_adam does. Put it before the "
            "rate: optax.chain(direction, adaptax.descend(1e-3))."
        )
    return None
