"""Seats: checks of the transformations passed as a learning rate.

A rate multiplies its updates by one number >= 0. Other transformations are refused: a
whole optimizer has its own minus sign, and with two the steps climb; a direction
changes more than the size of the steps; a controller that only multiplies another rate
would act as a rate of 1.

The state of each rate in adaptax has a method `has_unit`: whether it is a rate by
itself and not a multiple of another. Transformations with other states are applied to a
small update, see `adaptax._core.probing`.
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
from adaptax._core.states import asked, fields_of

_CONTAINERS = (optax.MaskedState, optax.transforms.PartitionState)
_UNKNOWN = (0.5, 1e-3, 10.0)  # values of traced inputs; at one a rate should be >= 0


def require_rate(transformation: optax.GradientTransformation) -> None:
    """Check that a transformation is a rate, as far as that can be determined.

    Raises:
        ValueError: If it reverses a small update, or changes its direction.
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
    """Check that a rate is not made only of controllers that multiply another rate.

    Raises:
        ValueError: If it is.
    """
    units = _units(transformation)
    require(
        not units or any(unit is not False for unit in units),
        "learning_rate got a controller that only multiplies another rate. Alone, it "
        "would be a rate of 1. Pass the other rate as well: "
        "learning_rate=[1e-3, reduce_on_plateau()], whose members multiply.",
    )


def _units(transformation: optax.GradientTransformation) -> list[bool | None]:
    """Return, for each state in a transformation, `has_unit()`; `None` if not a rate.

    It is `[None]` if `init` fails on parameters other than the user's.
    """
    example = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}
    try:
        return list(units_in(jax.eval_shape(transformation.init, example)))
    except Exception:  # other libraries may raise anything
        return [None]


def units_in(state: Any) -> Iterator[bool | None]:
    """Yield, for each state in a state, `has_unit()`; `None` if it is not a rate."""
    has_unit = asked(state, "has_unit")
    if has_unit and "inner_state" in fields_of(state):
        yield None  # a wrapper: what it scales is a whole optimizer
    elif has_unit:
        yield has_unit()
    elif isinstance(state, optax.contrib.ReduceLROnPlateauState):
        yield False
    elif isinstance(state, optax.InjectStatefulHyperparamsState):
        yield from units_in(state.inner_state)
    elif type(state) in (tuple, dict, *_CONTAINERS) and state:
        for part in state.values() if isinstance(state, dict) else state:
            yield from units_in(part)
    else:
        yield None


def _fault(pairs: list[tuple[np.ndarray, np.ndarray]] | None) -> str | None:
    """Return an error message if the pairs of updates show that it is not a rate."""
    if pairs is None or not all(np.isfinite(result).all() for _, result in pairs):
        return None
    if any((result < 0).any() for _, result in pairs):
        return (
            "learning_rate got a whole optimizer, which has its own minus sign (or a "
            "negative factor): its steps would climb. Use that optimizer by itself, or "
            "pass only the rate: a number, a schedule, a controller."
        )
    factors = [result / update for update, result in pairs]
    if not all(np.allclose(one, one[::-1], rtol=1e-3) for one in factors):
        return (
            "learning_rate got a transformation that changes the direction of the "
            "updates and not only their size, as scale_by_adam does. Put it before the "
            "rate: optax.chain(direction, adaptax.descend(1e-3))."
        )
    return None
